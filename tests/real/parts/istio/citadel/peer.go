package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"istio.io/istio/pkg/security"
	"istio.io/istio/pkg/spiffe"
	"istio.io/istio/security/pkg/credentialfetcher/plugin"
	"istio.io/istio/security/pkg/nodeagent/caclient/providers/citadel"
	pkiutil "istio.io/istio/security/pkg/pki/util"
)

// peer is what sign and cache share: who asks, whom, and for what.
type peer struct {
	options security.Options
	tls     citadel.TLSOptions
	token   string
	tokens  *tokenReader
	ttl     int64
	// headers holds names and values by turns, in the order of the flags.
	headers []string
}

// tokenReader counts how often the client reads its token, which it does
// once for every call that reaches a connection.
type tokenReader struct {
	security.CredFetcher
	reads atomic.Int64
}

func (t *tokenReader) GetPlatformCredential() (string, error) {
	t.reads.Add(1)
	return t.CredFetcher.GetPlatformCredential()
}

// parsePeer adds the shared flags to flags, which must be of the kind
// flag.ExitOnError, and parses arguments.
func parsePeer(flags *flag.FlagSet, arguments []string) *peer {
	p := &peer{}
	o := &p.options
	o.CAHeaders = map[string]string{}
	o.WorkloadRSAKeySize = 2048
	flags.StringVar(&o.CAEndpoint, "ca", "", "host:port of the authority")
	flags.StringVar(&p.tls.RootCert, "root", "", "roots the authority is judged by; without it the connection is plaintext")
	flags.StringVar(&p.tls.Cert, "cert", "", "client certificate chain, read at every handshake")
	flags.StringVar(&p.tls.Key, "tls-key", "", "key of the client certificate")
	flags.StringVar(&p.token, "token", "", "token file, read at every call; it may be missing")
	flags.StringVar(&o.TrustDomain, "trust-domain", "cluster.local", "trust domain named in the CSR")
	flags.StringVar(&o.WorkloadNamespace, "namespace", "default", "namespace named in the CSR")
	flags.StringVar(&o.ServiceAccount, "service-account", "default", "service account named in the CSR")
	flags.StringVar(&o.ClusterID, "cluster-id", "Kubernetes", "value of the ClusterID header")
	flags.StringVar(&o.CertSigner, "cert-signer", "", "value of the CertSigner metadata")
	flags.StringVar(&o.OutputKeyCertToDir, "out", "", "existing folder to write key.pem, cert-chain.pem and root-cert.pem to")
	flags.Int64Var(&p.ttl, "ttl", 86400, "lifetime to ask for, in seconds")
	flags.Func("header", "name=value of another header; may be repeated", func(text string) error {
		name, value, found := strings.Cut(text, "=")
		if !found {
			return fmt.Errorf("%q is not name=value", text)
		}
		o.CAHeaders[name] = value
		p.headers = append(p.headers, name, value)
		return nil
	})
	flags.Func("key", "rsa2048 (default), rsa3072, rsa4096, p256 or p384", p.setKey)
	_ = flags.Parse(arguments) // exits by itself
	if flags.NArg() > 0 || o.CAEndpoint == "" {
		fmt.Fprintf(flags.Output(), "-ca is needed, and nothing but flags; got %q\n", flags.Args())
		os.Exit(2)
	}
	p.readToken(p.token)
	return p
}

// readToken makes this file the one that the token is read from.
func (p *peer) readToken(file string) {
	p.tokens = &tokenReader{CredFetcher: plugin.CreateTokenPlugin(file)}
	p.options.CredFetcher = p.tokens
}

// setKey translates a -key value to the settings Istio's agent has for it.
func (p *peer) setKey(kind string) error {
	o := &p.options
	switch kind {
	case "rsa2048", "rsa3072", "rsa4096":
		_, err := fmt.Sscanf(kind, "rsa%d", &o.WorkloadRSAKeySize)
		return err
	case "p256", "p384":
		o.ECCSigAlg, o.ECCCurve = string(pkiutil.EcdsaSigAlg), strings.ToUpper(kind)
		return nil
	}
	return fmt.Errorf("unknown kind of key %q", kind)
}

// csr makes a key and a request for it, as Istio's agent does.
func (p *peer) csr() (csr, key []byte, err error) {
	o := &p.options
	identity := spiffe.Identity{TrustDomain: o.TrustDomain, Namespace: o.WorkloadNamespace, ServiceAccount: o.ServiceAccount}
	csr, key, err = pkiutil.GenCSR(pkiutil.CertOptions{
		Host:       identity.String(),
		RSAKeySize: o.WorkloadRSAKeySize,
		ECSigAlg:   pkiutil.SupportedECSignatureAlgorithms(o.ECCSigAlg),
		ECCCurve:   pkiutil.SupportedEllipticCurves(o.ECCCurve),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("make the CSR: %w", err)
	}
	return csr, key, nil
}

// client connects the way Istio's agent does; like there, plaintext is
// asked for by handing over no TLS options.
func (p *peer) client() (*citadel.CitadelClient, error) {
	if p.tls.RootCert == "" {
		return citadel.NewCitadelClient(&p.options, nil)
	}
	return citadel.NewCitadelClient(&p.options, &p.tls)
}
