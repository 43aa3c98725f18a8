// Command hello is the smallest server of net/http that answers: what a start, memory and size are compared with.
package main

import (
	"net/http"
	"os"
	"time"
)

func main() {
	s := &http.Server{
		Addr:              os.Args[1],
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("hello\n"))
		}),
	}
	panic(s.ListenAndServe())
}
