package main

import (
	"context"
	"flag"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "istio.io/api/security/v1alpha1"
)

// holdResult is the line that hold prints for one connection.
type holdResult struct {
	Name string `json:"name"`
	// First and Second are the gRPC codes of a call before and after.
	First  string `json:"first"`
	Second string `json:"second"`
	// Stream is the code that the open call ended with in between; empty if
	// there was none or it did not end. Messages is what came through it.
	Stream   string `json:"stream"`
	Messages int    `json:"messages"`
	seen
}

// runHold keeps connections for long and then calls again: one that pings
// without a call, one that pings beside an open call, one that says nothing,
// and one that pings at a server of Go's with its usual patience, for which
// that is too often.
func runHold(arguments []string) error {
	flags := flag.NewFlagSet("hold", flag.ExitOnError)
	seconds := flags.Float64("seconds", 45, "for how long")
	every := flags.Float64("ping", 10, "seconds from ping to ping; gRPC makes less than 10 to 10")
	p := parsePeer(flags, arguments)
	impatient, err := goServer()
	if err != nil {
		return err
	}
	pings := grpc.WithKeepaliveParams(keepalive.ClientParameters{
		Time: time.Duration(*every * float64(time.Second)), Timeout: 10 * time.Second, PermitWithoutStream: true,
	})
	// The longest that a Duration can be: gRPC's "never".
	silence := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 1<<63 - 1})
	other := *p
	other.options.CAEndpoint, other.tls.RootCert = impatient, ""
	holds := []struct {
		name   string
		peer   *peer
		option grpc.DialOption
		call   bool
	}{
		{"pings", p, pings, false},
		{"pings_beside_a_call", p, pings, true},
		{"silence", p, silence, false},
		{"pings_at_gos_own_server", &other, pings, false},
	}
	var group sync.WaitGroup
	failed := make(chan error, len(holds))
	for _, h := range holds {
		group.Go(func() {
			result, err := h.peer.hold(h.option, h.call, time.Duration(*seconds*float64(time.Second)))
			if err == nil {
				result.Name = h.name
				err = emit(result)
			}
			failed <- err
		})
	}
	group.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *peer) hold(option grpc.DialOption, call bool, duration time.Duration) (*holdResult, error) {
	w, err := p.wire(0, nil)
	if err != nil {
		return nil, err
	}
	// By default a channel without calls ends its connection itself, after half an hour.
	conn, err := p.dial(w, option, grpc.WithIdleTimeout(0))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	request, err := p.request()
	if err != nil {
		return nil, err
	}
	client := pb.NewIstioCertificateServiceClient(conn)
	ask := func() string {
		_, err := client.CreateCertificate(context.Background(), request)
		return status.Code(err).String()
	}
	result := &holdResult{First: ask()}
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	if call {
		watch, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
		for err == nil {
			if _, err = watch.Recv(); err == nil {
				result.Messages++
			}
		}
		// The end of our own time is none of the server's doing.
		if code := status.Code(err); code != codes.DeadlineExceeded {
			result.Stream = code.String()
		}
	}
	<-ctx.Done()
	result.Second = ask()
	result.seen = w.look()
	return result, nil
}

// goServer is one of Go's with the keep-alive enforcement that it has by
// default; its address.
func goServer() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := grpc.NewServer()
	pb.RegisterIstioCertificateServiceServer(server, &refuser{code: codes.Unauthenticated})
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), nil
}
