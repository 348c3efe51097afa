package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"istio.io/istio/pkg/backoff"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/nodeagent/cache"
)

// herdEvent is a line that herd prints: "failed" when an agent's first try
// did, "recovered" when an agent has its certificate.
type herdEvent struct {
	Event string `json:"event"`
	Agent int    `json:"agent"`
	// Codes counts the failed tries by gRPC code.
	Codes map[string]int `json:"codes"`
	// Calls holds how many calls each try took, the last one included.
	Calls []int64 `json:"calls"`
}

// runHerd starts many agents, all at once, and ends when every one has its
// certificate. Agent number n has the token file that -token names, with .n
// behind it.
func runHerd(arguments []string) error {
	flags := flag.NewFlagSet("herd", flag.ExitOnError)
	number := flags.Int("agents", 200, "how many")
	// A secret cache watches files, and Linux lets a user have 128 inotify
	// instances by default. Below its cache an agent is a citadel client.
	caches := flags.Int("caches", 20, "how many of them have a secret cache; the others ask without one")
	p := parsePeer(flags, arguments)
	group, ctx := errgroup.WithContext(context.Background())
	for n := range *number {
		group.Go(func() error { return p.agent(ctx, n, n < *caches) })
	}
	return group.Wait()
}

// agent is one of them: its own token, keys and connection, and the endless
// tries of Istio's agent at its start.
func (p *peer) agent(ctx context.Context, n int, cached bool) error {
	own := *p
	own.readToken(fmt.Sprintf("%s.%d", p.token, n))
	own.options.SecretTTL = time.Duration(p.ttl) * time.Second
	client, err := own.client()
	if err != nil {
		return err
	}
	defer client.Close()
	ask := func() error {
		csr, _, err := own.csr()
		if err == nil {
			_, err = client.CSRSign(csr, own.ttl)
		}
		return err
	}
	if cached {
		manager, err := cache.NewSecretManagerClient(client, &own.options)
		if err != nil {
			return err
		}
		defer manager.Close()
		ask = func() error {
			_, err := manager.GenerateSecret(security.WorkloadKeyCertResourceName)
			return err
		}
	}
	event := herdEvent{Event: "failed", Agent: n, Codes: map[string]int{}}
	retry := backoff.NewExponentialBackOff(backoff.Option{InitialInterval: 500 * time.Millisecond, MaxInterval: time.Minute})
	err = retry.RetryWithContext(ctx, func() error {
		before := own.tokens.reads.Load()
		err := ask()
		event.Calls = append(event.Calls, own.tokens.reads.Load()-before)
		if err == nil {
			return nil
		}
		code := "none"
		if found := rpcCode.FindStringSubmatch(err.Error()); found != nil {
			code = found[1]
		}
		event.Codes[code]++
		if len(event.Calls) == 1 {
			_ = emit(event)
		}
		return err
	})
	if err != nil {
		return err
	}
	event.Event = "recovered"
	return emit(event)
}
