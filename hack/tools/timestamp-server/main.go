// Command timestamp-server serves the RFC 3161 timestamp authority of sigstore/timestamp-authority over plain http on
// 127.0.0.1, with a key from a file. It is the module's own server; only the command around it is another one: the
// module's command also serves metrics on the fixed port 2112 and ends where that is taken, so that no two of them
// run on one machine.
package main

import (
	"flag"
	"log"
	"time"

	"github.com/sigstore/timestamp-authority/v2/pkg/server"
	"github.com/spf13/viper"
)

const policy = "1.3.6.1.4.1.57264.2"

func main() {
	port := flag.Int("port", 0, "port of 127.0.0.1 to listen on")
	key := flag.String("key", "", "file with the private key, PEM")
	chain := flag.String("certificate-chain", "", "file with the certificates from the leaf to the root, PEM")
	flag.Parse()

	for name, value := range map[string]any{
		"timestamp-signer":         "file",
		"timestamp-signer-hash":    "sha256",
		"file-signer-key-path":     *key,
		"certificate-chain-path":   *chain,
		"enforce-intermediate-eku": true,
		"default-policy-oid":       policy,
		"accepted-policy-oids":     []string{policy},
		"max-request-body-size":    1 << 20,
	} {
		viper.Set(name, value)
	}
	timestamps := server.NewRestAPIServer("127.0.0.1", *port, []string{"http"}, false, 30*time.Second, 30*time.Second)
	// A client must never find that a connection it keeps was closed just as it asks again: it cannot tell whether a POST
	// was carried out, so it gives up. The server says of each connection that it is not to be kept.
	timestamps.KeepAlive = 0
	log.Fatal(timestamps.Serve())
}
