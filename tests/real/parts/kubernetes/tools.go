//go:build tools

// Package tools names the two commands built from this module, so that
// go.mod and go.sum hold everything they need.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
