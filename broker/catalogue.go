package broker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// liveCatalogue is the catalogue in force, which can be replaced while it is read.
type liveCatalogue struct {
	replacing sync.Mutex
	current   atomic.Pointer[Catalogue]
}

func newLiveCatalogue(c Catalogue) *liveCatalogue {
	l := &liveCatalogue{}
	l.current.Store(&c)
	return l
}

// Provider finds an entry of the catalogue in force.
func (l *liveCatalogue) Provider(name string) (Provider, bool) {
	return (*l.current.Load()).Provider(name)
}

// Names lists the entries of the catalogue in force.
func (l *liveCatalogue) Names() []string { return (*l.current.Load()).Names() }

// ReplaceCatalogue puts another catalogue into force, for all calls from then on, and then does what a start does with what
// the configuration file declares: an integration whose token endpoint has moved takes its secret along, and its
// connections have to be authorized again. A catalogue that what is declared cannot be used with is refused, and nothing
// has changed then. Another error says that the new catalogue is in force, but not all that follows from it is done: it is
// to be called again.
func (b *Broker) ReplaceCatalogue(ctx context.Context, c Catalogue, declared []DeclaredEnvironment) error {
	b.catalogue.replacing.Lock()
	defer b.catalogue.replacing.Unlock()
	if err := holdsWith(c, declared); err != nil {
		return &CatalogueRefusedError{Err: err}
	}
	b.catalogue.current.Store(&c)
	// The ways out that are kept belong to the integrations of a snapshot. Whoever finds one of the next snapshot asks the
	// new catalogue, so what was made with the old one is of no use from here on, even if it is kept after this.
	if err := b.reload(ctx); err != nil {
		return err
	}
	b.cache.clear()
	b.rouse()
	return b.Declare(ctx, declared)
}

// CatalogueRefusedError says that a catalogue was not put into force.
type CatalogueRefusedError struct{ Err error }

// Error says why.
func (e *CatalogueRefusedError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *CatalogueRefusedError) Unwrap() error { return e.Err }

// holdsWith checks that everything that is declared can be used with a catalogue.
func holdsWith(c Catalogue, declared []DeclaredEnvironment) error {
	for _, e := range declared {
		for _, in := range e.Integrations {
			p, err := usableProvider(c, in.Provider)
			if err == nil {
				err = checkSettings(p, &Integration{Settings: in.Settings})
			}
			if err != nil {
				return fmt.Errorf("environment %s: integration %s: %w", e.Environment.Name, in.Key, err)
			}
		}
	}
	return nil
}

// usableProvider finds an entry that integrations can be made of.
func usableProvider(c Catalogue, name string) (Provider, error) {
	p, ok := c.Provider(name)
	if !ok {
		return nil, ErrNotFound.Saying("there is no provider " + quote(name)).On("provider")
	}
	if f := p.Facts(); !f.Usable {
		return nil, ErrNotSupported.Saying(f.UnusableReason).On("provider")
	}
	return p, nil
}
