package main

import (
	"context"
	"flag"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	pb "istio.io/api/security/v1alpha1"
)

// streamsEvent is a line that streams prints: "open" when the server has the
// heads of all calls, and at last "done".
type streamsEvent struct {
	Event string `json:"event"`
	// Outcomes counts the calls that ended with each gRPC code.
	Outcomes map[string]int `json:"outcomes,omitempty"`
	seen
}

// runStreams opens many calls on one connection before it sends the body of
// any. The bodies follow when the server says that it goes, or never.
func runStreams(arguments []string) error {
	flags := flag.NewFlagSet("streams", flag.ExitOnError)
	calls := flags.Int("calls", 8, "how many at once")
	never := flags.Bool("never", false, "send no bodies at all")
	p := parsePeer(flags, arguments)
	w, err := p.wire(0, nil)
	if err != nil {
		return err
	}
	conn, err := p.dial(w)
	if err != nil {
		return err
	}
	defer conn.Close()
	open := make([]grpc.ClientStream, *calls)
	for i := range open {
		// gRPC would hold one back that the server has no room for.
		if open[i], err = conn.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true}, createCertificate); err != nil {
			return err
		}
	}
	if err := emit(streamsEvent{Event: "open", seen: w.look()}); err != nil {
		return err
	}
	if !*never {
		<-w.told
		for _, call := range open {
			request, err := p.request()
			if err != nil {
				return err
			}
			// What is wrong with a call, its answer says.
			_ = call.SendMsg(request)
			_ = call.CloseSend()
		}
	}
	outcomes := map[string]int{}
	for _, call := range open {
		err := call.RecvMsg(&pb.IstioCertificateResponse{})
		outcomes[status.Code(err).String()]++
	}
	return emit(streamsEvent{Event: "done", Outcomes: outcomes, seen: w.look()})
}
