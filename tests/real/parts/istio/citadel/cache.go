package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"istio.io/istio/pkg/backoff"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/nodeagent/cache"
)

// cacheEvent is a line that cache prints: "secret" when one was had, "push"
// when the cache announced a change, "error" when a try failed, and last
// "done" or "deadline".
type cacheEvent struct {
	Event string `json:"event"`
	Name  string `json:"name,omitempty"`
	Error string `json:"error,omitempty"`
	// NotAfter and Serial are those of the leaf, for ROOTCA of the first root.
	NotAfter string `json:"not_after,omitempty"`
	Serial   string `json:"serial,omitempty"`
	// RootSHA256 holds the fingerprint of every root; absent when the secret
	// has none, as a "default" from the cache has.
	RootSHA256 []string `json:"root_sha256,omitempty"`
	// Rotations counts the "default" certificates after the first.
	Rotations int64 `json:"rotations"`
}

// runner keeps both secrets of a workload current, as the agent does for
// proxyless workloads.
type runner struct {
	manager   *cache.SecretManagerClient
	serial    string
	rotations atomic.Int64
}

func runCache(arguments []string) error {
	flags := flag.NewFlagSet("cache", flag.ExitOnError)
	rotations := flags.Int64("rotations", 1, "exit after that many rotations of the certificate")
	deadline := flags.Float64("deadline", 60, "seconds after which to give up, whatever is going on")
	ratio := flags.Float64("ratio", 0.5, "part of the lifetime that is left at a rotation; 1 rotates at once")
	jitter := flags.Float64("jitter", 0.01, "by how much the ratio varies at random")
	p := parsePeer(flags, arguments)
	p.options.SecretTTL = time.Duration(p.ttl) * time.Second
	p.options.SecretRotationGracePeriodRatio = *ratio
	p.options.SecretRotationGracePeriodRatioJitter = *jitter
	client, err := p.client()
	if err != nil {
		return err
	}
	manager, err := cache.NewSecretManagerClient(client, &p.options)
	if err != nil {
		return err
	}
	defer manager.Close()
	r := &runner{manager: manager}

	// A call without an answer blocks the cache for ever (no deadline of its
	// own), so this cannot be a context.
	time.AfterFunc(time.Duration(*deadline*float64(time.Second)), func() {
		_ = emit(cacheEvent{Event: "deadline", Rotations: r.rotations.Load()})
		os.Exit(1)
	})
	// The cache announces from inside its own calls, at most twice for each
	// certificate it gets: the buffer is never full, so they never block.
	pushes := make(chan string, 64)
	manager.RegisterSecretHandler(func(name string) { pushes <- name })

	for _, name := range []string{security.WorkloadKeyCertResourceName, security.RootCertReqResourceName} {
		if err := r.generate(name); err != nil {
			return err
		}
	}
	for r.rotations.Load() < *rotations {
		name := <-pushes
		if err := emit(cacheEvent{Event: "push", Name: name, Rotations: r.rotations.Load()}); err != nil {
			return err
		}
		if err := r.generate(name); err != nil {
			return err
		}
	}
	return emit(cacheEvent{Event: "done", Rotations: r.rotations.Load()})
}

// generate asks the cache for a secret until it has one, with the back-off
// of Istio's agent but a shorter longest wait.
func (r *runner) generate(name string) error {
	var secret *security.SecretItem
	retry := backoff.NewExponentialBackOff(backoff.Option{InitialInterval: 500 * time.Millisecond, MaxInterval: 2 * time.Second})
	if err := retry.RetryWithContext(context.Background(), func() error {
		var err error
		if secret, err = r.manager.GenerateSecret(name); err != nil {
			_ = emit(cacheEvent{Event: "error", Name: name, Error: err.Error(), Rotations: r.rotations.Load()})
		}
		return err
	}); err != nil {
		return err
	}
	event, err := r.describe(name, secret)
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	return emit(event)
}

// describe turns a secret into its line and counts the rotation, if it is one.
func (r *runner) describe(name string, secret *security.SecretItem) (*cacheEvent, error) {
	event := &cacheEvent{Event: "secret", Name: name}
	text := secret.CertificateChain
	if name == security.RootCertReqResourceName {
		text = secret.RootCert
	}
	certificates, err := parse(text)
	if err != nil {
		return nil, err
	}
	event.NotAfter = certificates[0].NotAfter.UTC().Format(time.RFC3339)
	event.Serial = hex.EncodeToString(certificates[0].SerialNumber.Bytes())
	if len(secret.RootCert) > 0 {
		roots, err := parse(secret.RootCert)
		if err != nil {
			return nil, err
		}
		for _, root := range roots {
			sum := sha256.Sum256(root.Raw)
			event.RootSHA256 = append(event.RootSHA256, hex.EncodeToString(sum[:]))
		}
	}
	if name == security.WorkloadKeyCertResourceName && event.Serial != r.serial {
		if r.serial != "" {
			r.rotations.Add(1)
		}
		r.serial = event.Serial
	}
	event.Rotations = r.rotations.Load()
	return event, nil
}
