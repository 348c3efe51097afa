// Command citadel is a scripted peer for the tests. It asks a certificate
// authority for certificates with the packages Istio's agent is made of
// (CSR maker, token reader, citadel client, secret cache) and tells on
// stdout, one JSON object per line, what it got. Istio's log goes to stderr.
//
//	citadel sign     one request
//	citadel retry    attempts per gRPC code, against a server of its own
//	citadel cache    Istio's secret cache, through rotations
//	citadel herd     many agents that ask all at once until each is answered
//	citadel crowd    many citadel clients, each with its connection
//
// What Istio's agent never sends, other clients do. For these it is a plain
// gRPC client that sees the HTTP/2 frames of its connections:
//
//	citadel ask      one request, as it is told to send it
//	citadel streams  many calls at once on one connection
//	citadel hold     connections that ping, or say nothing, for long
//
// It exits with 0 when it could tell the outcome, even if that is a refusal,
// with 1 when it could not do its work, with 2 when called wrongly.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"istio.io/istio/pkg/log"
)

func main() {
	commands := map[string]func([]string) error{
		"sign":    runSign,
		"retry":   runRetry,
		"cache":   runCache,
		"herd":    runHerd,
		"crowd":   runCrowd,
		"ask":     runAsk,
		"streams": runStreams,
		"hold":    runHold,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: citadel sign|retry|cache|herd|crowd|ask|streams|hold [flags]; -help after a command lists its flags")
		os.Exit(2)
	}
	// Istio logs to stdout by default, which belongs to the JSON lines.
	options := log.DefaultOptions()
	options.OutputPaths = []string{"stderr"}
	err := log.Configure(options)
	if err == nil {
		err = commands[os.Args[1]](os.Args[2:])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "citadel %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// emit prints one JSON line. Each goes out in a single write, so lines of
// several goroutines never mix.
func emit(line any) error {
	return json.NewEncoder(os.Stdout).Encode(line)
}
