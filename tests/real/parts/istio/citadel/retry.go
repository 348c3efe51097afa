package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "istio.io/api/security/v1alpha1"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/nodeagent/caclient/providers/citadel"
)

// refuser answers every request with one code.
type refuser struct {
	pb.UnimplementedIstioCertificateServiceServer
	code  codes.Code
	calls atomic.Int64
}

func (r *refuser) CreateCertificate(context.Context, *pb.IstioCertificateRequest) (*pb.IstioCertificateResponse, error) {
	r.calls.Add(1)
	return nil, status.Error(r.code, "refused by the test")
}

// retryResult is the line that retry prints for one code.
type retryResult struct {
	Code     codes.Code `json:"code"`
	Name     string     `json:"name"`
	Attempts int64      `json:"attempts"`
	Seconds  float64    `json:"seconds"`
}

// runRetry shows how often Istio's client tries again on each gRPC code,
// which is what a server's choice of codes has to reckon with.
func runRetry(arguments []string) error {
	flags := flag.NewFlagSet("retry", flag.ExitOnError)
	_ = flags.Parse(arguments) // exits by itself
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		result, err := measure(code)
		if err != nil {
			return fmt.Errorf("code %v: %w", code, err)
		}
		if err := emit(result); err != nil {
			return err
		}
	}
	return nil
}

// measure asks once at a server that refuses with code. The client is
// Istio's own, so its interceptors are the ones the agent has.
func measure(code codes.Code) (*retryResult, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	service := &refuser{code: code}
	server := grpc.NewServer()
	pb.RegisterIstioCertificateServiceServer(server, service)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	client, err := citadel.NewCitadelClient(&security.Options{CAEndpoint: listener.Addr().String()}, nil)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	start := time.Now()
	if _, err := client.CSRSign([]byte("csr"), 3600); err == nil {
		return nil, fmt.Errorf("the client took a refusal for a success")
	}
	return &retryResult{code, code.String(), service.calls.Load(), time.Since(start).Seconds()}, nil
}
