// The interoperability server of grpc-go, with reflection, on the address that it is given.
package main

import (
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testing "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
)

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	testing.RegisterTestServiceServer(server, interop.NewTestServer())
	reflection.Register(server)
	log.Fatal(server.Serve(listener))
}
