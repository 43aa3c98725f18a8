package integrations

import (
	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// api holds what every handler needs.
type api struct {
	b     *broker.Broker
	pages kit.Starter
	proxy kit.Carrier
}

// Surface lists the rows. The pages begin sign-ins, and calls to providers are made through the proxy.
func Surface(b *broker.Broker, pages kit.Starter, proxy kit.Carrier) kit.Surface {
	_ = &api{b: b, pages: pages, proxy: proxy}
	return kit.Surface{Name: "integrations", JSON: true}
}
