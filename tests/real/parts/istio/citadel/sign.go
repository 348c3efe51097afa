package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"regexp"
	"time"

	nodeagentutil "istio.io/istio/security/pkg/nodeagent/util"
	pkiutil "istio.io/istio/security/pkg/pki/util"
)

// signResult is the line that sign prints.
type signResult struct {
	OK    bool   `json:"ok"`
	Error string `json:"error"`
	// Code is the gRPC code's name; empty on success and on faults that the
	// client itself found in the answer.
	Code string `json:"grpc_code"`
	// Attempts counts the calls that reached a connection.
	Attempts int64   `json:"attempts"`
	Seconds  float64 `json:"seconds"`
	// Chain is as it came, element by element; empty after an error.
	Chain []string `json:"chain"`
	// Verified is absent unless -verify was given and a chain came.
	Verified    *bool  `json:"verified,omitempty"`
	VerifyError string `json:"verify_error,omitempty"`
}

// rpcCode finds the code in the text of an error: the citadel client wraps
// the status in a way that hides it from status.FromError.
var rpcCode = regexp.MustCompile(`rpc error: code = (\w+) `)

func runSign(arguments []string) error {
	flags := flag.NewFlagSet("sign", flag.ExitOnError)
	judge := flags.Bool("verify", false, "verify the chain with crypto/x509, for clients and servers")
	p := parsePeer(flags, arguments)
	o := &p.options
	csr, key, err := p.csr()
	if err != nil {
		return err
	}
	client, err := p.client()
	if err != nil {
		return err
	}
	defer client.Close()

	start := time.Now()
	chain, err := client.CSRSign(csr, p.ttl)
	result := signResult{
		OK: err == nil, Attempts: p.tokens.reads.Load(), Seconds: time.Since(start).Seconds(),
		Chain: append([]string{}, chain...),
	}
	if err != nil {
		result.Error = err.Error()
		if found := rpcCode.FindStringSubmatch(result.Error); found != nil {
			result.Code = found[1]
		}
		return emit(result)
	}
	if *judge {
		err := verify(chain, key)
		verified := err == nil
		result.Verified = &verified
		if err != nil {
			result.VerifyError = err.Error()
		}
	}
	// As the agent does: the chain file holds every element, roots included.
	var whole []byte
	for _, element := range chain {
		whole = pkiutil.AppendCertByte(whole, []byte(element))
	}
	if err := nodeagentutil.OutputKeyCertToDir(o.OutputKeyCertToDir, key, whole, []byte(chain[len(chain)-1])); err != nil {
		return err
	}
	return emit(result)
}

// verify judges an answer as a Go peer would: the leaf belongs to the key
// and leads, through the elements in the middle, to a root in the last one,
// for client and for server use.
func verify(chain []string, key []byte) error {
	if _, err := tls.X509KeyPair([]byte(chain[0]), key); err != nil {
		return fmt.Errorf("element 0 and the key: %w", err)
	}
	var leaf *x509.Certificate
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for i, element := range chain {
		certificates, err := parse([]byte(element))
		if err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		last := i == len(chain)-1
		if !last && len(certificates) != 1 {
			return fmt.Errorf("element %d holds %d certificates; only the last may hold several", i, len(certificates))
		}
		for _, certificate := range certificates {
			switch {
			case i == 0:
				leaf = certificate
			case last:
				roots.AddCert(certificate)
			default:
				intermediates.AddCert(certificate)
			}
		}
	}
	for name, usage := range map[string]x509.ExtKeyUsage{"client": x509.ExtKeyUsageClientAuth, "server": x509.ExtKeyUsageServerAuth} {
		if _, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{usage},
		}); err != nil {
			return fmt.Errorf("for use as a %s: %w", name, err)
		}
	}
	return nil
}

// parse reads one element: certificates in PEM and nothing else.
func parse(text []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for len(text) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("not a certificate in PEM")
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certificates, text = append(certificates, certificate), rest
	}
	if certificates == nil {
		return nil, errors.New("empty")
	}
	return certificates, nil
}
