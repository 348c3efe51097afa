package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	pb "istio.io/api/security/v1alpha1"
)

// askResult is the line that ask prints.
type askResult struct {
	signResult
	seen
}

var curves = map[string]tls.CurveID{
	"X25519": tls.X25519, "P-256": tls.CurveP256, "P-384": tls.CurveP384, "X25519MLKEM768": tls.X25519MLKEM768,
}

var versions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// runAsk sends one request exactly as the flags say: no header, no metadata
// and no retry of its own.
func runAsk(arguments []string) error {
	flags := flag.NewFlagSet("ask", flag.ExitOnError)
	file := flags.String("csr", "", "file whose text is sent as the CSR; without it one is made")
	fields := flags.String("metadata", "", "the request's metadata, a JSON object; without it there is none")
	authority := flags.String("authority", "", "the call's :authority, instead of the address")
	var version uint16
	flags.Func("tls", "1.2 or 1.3, and no other version", func(text string) error {
		var known bool
		if version, known = versions[text]; !known {
			return fmt.Errorf("unknown version %q", text)
		}
		return nil
	})
	var groups []tls.CurveID
	flags.Func("curve", "X25519, P-256, P-384 or X25519MLKEM768, and no other group", func(text string) error {
		group, known := curves[text]
		if !known {
			return fmt.Errorf("unknown group %q", text)
		}
		groups = []tls.CurveID{group}
		return nil
	})
	p := parsePeer(flags, arguments)
	request, err := p.request()
	if err != nil {
		return err
	}
	if *file != "" {
		text, err := os.ReadFile(*file)
		if err != nil {
			return err
		}
		request.Csr = string(text)
	}
	if *fields != "" {
		request.Metadata = &structpb.Struct{}
		if err := protojson.Unmarshal([]byte(*fields), request.Metadata); err != nil {
			return err
		}
	}
	w, err := p.wire(version, groups)
	if err != nil {
		return err
	}
	var more []grpc.DialOption
	if *authority != "" {
		more = append(more, grpc.WithAuthority(*authority))
	}
	conn, err := p.dial(w, more...)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx := metadata.NewOutgoingContext(context.Background(), metadata.Pairs(p.headers...))
	start := time.Now()
	response, err := pb.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, request)
	result := askResult{signResult: signResult{
		OK: err == nil, Attempts: p.tokens.reads.Load(), Seconds: time.Since(start).Seconds(),
		Chain: append([]string{}, response.GetCertChain()...),
	}}
	if err != nil {
		result.Error, result.Code = err.Error(), status.Code(err).String()
	}
	result.seen = w.look()
	return emit(result)
}

// request is what a plain client asks: no metadata.
func (p *peer) request() (*pb.IstioCertificateRequest, error) {
	csr, _, err := p.csr()
	if err != nil {
		return nil, err
	}
	return &pb.IstioCertificateRequest{Csr: string(csr), ValidityDuration: p.ttl}, nil
}
