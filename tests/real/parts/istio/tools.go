//go:build tools

// Package tools names the command built unmodified from Istio's module, so
// that go.mod and go.sum hold everything it needs.
package tools

import _ "istio.io/istio/pilot/cmd/pilot-agent"
