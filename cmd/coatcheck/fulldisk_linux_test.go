package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// A disk that fills up while tokens are renewed costs no grant: what was issued is stored in the room that was kept for it,
// and after that nobody is asked for more.
func TestAFullDiskCostsNoGrant(t *testing.T) {
	provider := providertest.New(t, providertest.Knobs{Rotate: true}) // a spent token that comes back ends the grant
	p := newProcess(t, provider)
	data := filepath.Join(p.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=48m,mode=0700"); err != nil {
		t.Skipf("a small disk cannot be made here: mount: %v", err) // it takes a privilege that not every machine gives
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p.start()
	const n = 20
	for i := range n {
		if a, err := p.importToken(t.Context(), connectionName(i), time.Now().Add(time.Hour)); err != nil || a.status != http.StatusCreated {
			t.Fatal(a, err)
		}
	}
	ballast := filepath.Join(data, "what-fills-the-disk")
	fill(t, ballast)
	var callers sync.WaitGroup
	for i := range 10 * n {
		callers.Go(func() {
			a, err := p.do(t.Context(), http.MethodGet, "/connections/"+connectionName(i%n)+"?provider_config_key=acme&force_refresh=true", "")
			if err != nil || a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
				t.Errorf("on a full disk: %v, %v", a, err)
			}
		})
	}
	callers.Wait()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		untilDone(t, 40*time.Second, func() (done bool, why string) {
			token, a, err := p.token(t.Context(), connectionName(i), true)
			return err == nil && provider.Good(token), fmt.Sprint(connectionName(i), ": ", a, err)
		})
	}
	if counts := provider.Counts(); counts.Reuses != 0 || counts.FamiliesRevoked != 0 {
		t.Errorf("%+v", counts)
	}
}

// fill writes until there is no room.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk did not fill up: %v", err)
	}
	_ = f.Close()
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
