// A CoreDNS with the few plugins that the tests use: the whole one takes several minutes and two gigabytes to build.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/erratic"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/log"
)

func init() {
	// The order in which plugins see a query, as in CoreDNS itself.
	dnsserver.Directives = []string{"log", "file", "erratic"}
}

func main() {
	coremain.Run()
}
