package providers

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of hosts anew")

// The catalogue is code: whoever changes where a secret goes has to say so here too. Run the test with -update.
func TestHostsOfTheBuiltinCatalogue(t *testing.T) {
	c := loadBuiltin(t)
	var b strings.Builder
	for _, name := range c.Names() {
		p, _ := c.Provider(name)
		var hosts []string
		for _, u := range baseOf(p).spec.urls {
			for i := range u.alts {
				if u.hosts[i].whole == "" {
					hosts = append(hosts, hostText(u.hosts[i].parts))
					continue
				}
				hosts = append(hosts, "${"+u.hosts[i].whole+"}")
			}
		}
		slices.Sort(hosts)
		fmt.Fprintln(&b, name, strings.Join(slices.Compact(hosts), " "))
	}
	const file = "testdata/hosts.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	old := strings.Split(string(want), "\n")
	for line := range strings.SplitSeq(b.String(), "\n") {
		if !slices.Contains(old, line) {
			t.Errorf("not approved: %s", line)
		}
	}
	if !t.Failed() && b.String() != string(want) {
		t.Error("the list has entries that are gone")
	}
}

func hostText(q sequence) string {
	var b strings.Builder
	for _, p := range q {
		b.WriteString(p.text)
		if p.ref != "" {
			b.WriteString("${" + p.ref + "}")
		}
	}
	return b.String()
}

// inner lets tests look into any provider.
func (b *base) inner() *base { return b }

func baseOf(p any) *base { return p.(interface{ inner() *base }).inner() }
