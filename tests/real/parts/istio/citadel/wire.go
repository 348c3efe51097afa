package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	istiogrpc "istio.io/istio/pilot/pkg/grpc"
	"istio.io/istio/security/pkg/nodeagent/caclient"
)

// createCertificate is the one method of the service.
const createCertificate = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

// seen is what went over the connections of one client.
type seen struct {
	Connections   int    `json:"connections"`
	TLSVersion    string `json:"tls_version,omitempty"`
	Curve         string `json:"curve,omitempty"`
	PingsSent     int    `json:"pings_sent"`
	PingsReceived int    `json:"pings_received"`
	PongsReceived int    `json:"pongs_received"`
	// GoAway holds the error code of every GOAWAY that came.
	GoAway []uint32 `json:"goaway"`
	// MaxStreams and MaxHeaders are the server's settings (RFC 9113, 6.5.2).
	MaxStreams uint32 `json:"max_concurrent_streams"`
	MaxHeaders uint32 `json:"max_header_list_size"`
}

// wire stands between TLS and HTTP/2. As these are the credentials of a
// channel, gRPC itself hands it every connection.
type wire struct {
	credentials.TransportCredentials
	// serverName is what the server's certificate must show, whatever the
	// calls' :authority says.
	serverName string

	lock sync.Mutex
	seen seen
	// told is closed when a GOAWAY came.
	told chan struct{}
}

// wire makes the credentials that the flags ask for; nil curves and zero
// versions leave the choice to Go.
func (p *peer) wire(version uint16, curves []tls.CurveID) (*wire, error) {
	w := &wire{told: make(chan struct{}), TransportCredentials: insecure.NewCredentials()}
	w.seen.GoAway = []uint32{}
	if p.tls.RootCert == "" {
		return w, nil
	}
	text, err := os.ReadFile(p.tls.RootCert)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("no certificate in %s", p.tls.RootCert)
	}
	if w.serverName, _, err = net.SplitHostPort(p.options.CAEndpoint); err != nil {
		return nil, err
	}
	w.TransportCredentials = credentials.NewTLS(&tls.Config{
		RootCAs: roots, MinVersion: version, MaxVersion: version, CurvePreferences: curves,
	})
	return w, nil
}

// dial is how Istio's agent dials (windows, sizes, tokens), without its
// retries and over this wire.
func (p *peer) dial(w *wire, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	options, err := istiogrpc.ClientOptions(nil, nil)
	if err != nil {
		return nil, err
	}
	options = append(options, grpc.WithTransportCredentials(w),
		grpc.WithPerRPCCredentials(caclient.NewDefaultTokenProvider(&p.options)))
	return grpc.NewClient("passthrough:///"+p.options.CAEndpoint, append(options, more...)...)
}

// look returns what was seen so far.
func (w *wire) look() seen {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.seen
}

func (w *wire) Clone() credentials.TransportCredentials { return w }

func (w *wire) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("this is a client")
}

func (w *wire) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if w.serverName != "" {
		authority = w.serverName
	}
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	w.seen.Connections++
	if secured, ok := info.(credentials.TLSInfo); ok {
		w.seen.TLSVersion, w.seen.Curve = tls.VersionName(secured.State.Version), secured.State.CurveID.String()
	}
	c := &wireConn{Conn: conn}
	c.in.frame, c.out.frame = w.received, w.sent
	// The client's first words are no frame (RFC 9113, 3.4).
	c.out.left = len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	return c, info, nil
}

// wireConn reads along.
type wireConn struct {
	net.Conn
	in, out frames
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.add(b[:n])
	return n, err
}

func (c *wireConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.out.add(b[:n])
	return n, err
}

// Types and flags of frames (RFC 9113, 6).
const (
	settingsFrame, pingFrame, goAwayFrame = 4, 6, 7
	ackFlag                               = 1
	maxStreams, maxHeaders                = 3, 6
)

// frames takes a stream of HTTP/2 frames apart. Only short payloads are kept.
type frames struct {
	frame func(kind, flags byte, payload []byte)
	// head of the current frame, as far as it came; payload after it.
	head, payload []byte
	// left is what is still to come of the payload.
	left int
}

func (f *frames) add(b []byte) {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(f.left, len(b))
			if len(f.payload) < 256 {
				f.payload = append(f.payload, b[:n]...)
			}
			b, f.left = b[n:], f.left-n
		} else {
			n := min(9-len(f.head), len(b))
			f.head, b = append(f.head, b[:n]...), b[n:]
			if len(f.head) < 9 {
				return
			}
			f.left, f.payload = int(f.head[0])<<16|int(f.head[1])<<8|int(f.head[2]), f.payload[:0]
		}
		if f.left == 0 && len(f.head) == 9 {
			f.frame(f.head[3], f.head[4], f.payload)
		}
		if f.left == 0 {
			f.head = f.head[:0]
		}
	}
}

func (w *wire) sent(kind, flags byte, _ []byte) {
	w.lock.Lock()
	defer w.lock.Unlock()
	if kind == pingFrame && flags&ackFlag == 0 {
		w.seen.PingsSent++
	}
}

func (w *wire) received(kind, flags byte, payload []byte) {
	w.lock.Lock()
	defer w.lock.Unlock()
	switch {
	case kind == pingFrame && flags&ackFlag != 0:
		w.seen.PongsReceived++
	case kind == pingFrame:
		w.seen.PingsReceived++
	case kind == goAwayFrame && len(payload) >= 8:
		if len(w.seen.GoAway) == 0 {
			close(w.told)
		}
		w.seen.GoAway = append(w.seen.GoAway, binary.BigEndian.Uint32(payload[4:]))
	case kind == settingsFrame:
		for ; len(payload) >= 6; payload = payload[6:] {
			value := binary.BigEndian.Uint32(payload[2:])
			switch binary.BigEndian.Uint16(payload) {
			case maxStreams:
				w.seen.MaxStreams = value
			case maxHeaders:
				w.seen.MaxHeaders = value
			}
		}
	}
}
