// Command referrers-registry serves an OCI registry with the OCI 1.1 referrers
// API from memory, for tests and the demo. Each request becomes one line of
// stderr in the combined log format, which distribution's access log has too.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	flag.Parse()

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatalf("cannot listen on --listen=%s: %v", *listen, err)
	}
	fmt.Fprintf(os.Stderr, "listening on %s\n", listener.Addr())

	handler := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	server := &http.Server{Handler: logged(handler), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.Serve(listener))
}

func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uri, start := r.URL.RequestURI(), time.Now()
		recorded := &answer{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(recorded, r)
		client, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(os.Stderr, "%s - - [%s] %q %d %d %q %q\n", client, start.Format("02/Jan/2006:15:04:05 -0700"),
			r.Method+" "+uri+" "+r.Proto, recorded.status, recorded.bytes, r.Referer(), r.UserAgent())
	})
}

// answer remembers what the handler answered.
type answer struct {
	http.ResponseWriter
	status, bytes int
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(body []byte) (int, error) {
	n, err := a.ResponseWriter.Write(body)
	a.bytes += n
	return n, err
}
