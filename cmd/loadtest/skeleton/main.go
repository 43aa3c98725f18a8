// Command skeleton links the libraries that the broker stands on and does next to nothing with them: what the size of its
// binary is compared with.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	"filippo.io/age"
	"github.com/a-h/templ"
	"github.com/gorilla/mux"
	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"
	_ "modernc.org/sqlite" // the driver
)

func main() {
	db, err := sql.Open("sqlite", ":memory:")
	check(err)
	var one int
	check(db.QueryRowContext(context.Background(), "SELECT 1").Scan(&one))
	cache, err := otter.New(&otter.Options[string, int]{MaximumSize: 10})
	check(err)
	cache.Set("one", one)
	var flights singleflight.Group
	sealed, err, _ := flights.Do("seal", func() (any, error) { return seal("secret") })
	check(err)
	r := mux.NewRouter()
	r.Handle("/page", templ.Handler(templ.Raw(sealed.(string)))) //nolint:forbidigo // nobody is shown this page
	r.PathPrefix("/proxy/").Handler(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: "localhost"}))
	s := &http.Server{Addr: os.Args[1], Handler: r, ReadHeaderTimeout: 5 * time.Second}
	check(s.ListenAndServe())
}

// seal encrypts a text with age and opens it again.
func seal(text string) (string, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, id.Recipient())
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	plain, err := age.Decrypt(&file, id)
	if err != nil {
		return "", err
	}
	opened, err := io.ReadAll(plain)
	return string(opened), err
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
