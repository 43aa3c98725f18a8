package connections

import (
	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// api holds what every handler needs.
type api struct {
	b     *broker.Broker
	pages kit.Starter
}

// Surface lists the rows. Links to begin sign-ins with lead to the pages.
func Surface(b *broker.Broker, pages kit.Starter) kit.Surface {
	_ = &api{b: b, pages: pages}
	return kit.Surface{Name: "connections", JSON: true}
}
