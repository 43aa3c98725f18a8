package popup

import (
	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// api holds what every handler needs.
type api struct{ b *broker.Broker }

// Surface lists the rows.
func Surface(b *broker.Broker) kit.Surface {
	_ = &api{b: b}
	return kit.Surface{Name: "popup", JSON: true}
}
