package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"

	"istio.io/istio/security/pkg/nodeagent/caclient/providers/citadel"
)

// crowdEvent is a line that crowd prints: "open" when every client had its
// certificate, "done" when every one had another.
type crowdEvent struct {
	Event string `json:"event"`
	// Calls counts those that reached a connection, over all clients.
	Calls int64 `json:"calls"`
}

// runCrowd makes many of Istio's clients, each with a connection of its own
// that stays. When all have a certificate it waits for SIGTERM, and then all
// ask once more.
func runCrowd(arguments []string) error {
	flags := flag.NewFlagSet("crowd", flag.ExitOnError)
	number := flags.Int("clients", 2000, "how many")
	p := parsePeer(flags, arguments)
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	clients := make([]*citadel.CitadelClient, *number)
	for i := range clients {
		var err error
		if clients[i], err = p.client(); err != nil {
			return err
		}
		defer clients[i].Close()
	}
	round := func(event string) error {
		group := errgroup.Group{}
		// More at once would only wait for processors.
		group.SetLimit(64)
		for i, client := range clients {
			group.Go(func() error {
				csr, _, err := p.csr()
				if err != nil {
					return err
				}
				if _, err := client.CSRSign(csr, p.ttl); err != nil {
					return fmt.Errorf("client %d: %w", i, err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		return emit(crowdEvent{Event: event, Calls: p.tokens.reads.Load()})
	}
	if err := round("open"); err != nil {
		return err
	}
	<-asked
	return round("done")
}
