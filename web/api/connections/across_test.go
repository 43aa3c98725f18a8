package connections_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// nangos are the connections that the Nango-compatible API lists, by id, and whether it reports an error of them.
func (s *site) nangos(t *testing.T) map[string]bool {
	t.Helper()
	var list struct {
		Connections []struct {
			ID     string `json:"connection_id"`
			Errors []any  `json:"errors"`
		} `json:"connections"`
	}
	w := s.Send(t, http.MethodGet, "/connections", "")
	must(t, json.Unmarshal(w.Body.Bytes(), &list))
	out := make(map[string]bool)
	for _, c := range list.Connections {
		out["conn_"+c.ID] = len(c.Errors) > 0
	}
	return out
}

func TestBothAPIsSeeTheSameConnections(t *testing.T) {
	s := newSite(t)
	made := s.begun(t, "hubspot", "").ConnectionID
	if _, known := s.nangos(t)[made]; known {
		t.Error("the other API knows a pending one")
	}
	s.browser(t).follow(s.begun(t, "hubspot", "").AuthURL)
	if wrong, known := s.nangos(t)[made]; !known || wrong {
		t.Errorf("active: known %v, wrong %v", known, wrong)
	}
	if code, got := s.call(t, http.MethodPost, "/"+made+"/refresh", ""); code != http.StatusInternalServerError {
		t.Fatalf("%d %s", code, got.text)
	}
	if wrong := s.nangos(t)[made]; !wrong || s.status(t, made) != "error" {
		t.Errorf("failing: wrong %v, %s", wrong, s.status(t, made))
	}

	imported := s.Send(t, http.MethodPost, "/connections", `{"provider_config_key":"stripe","connection_id":"their-name","end_user":{"id":"u-1"},
		"credentials":{"type":"OAUTH2","access_token":"granted-token","refresh_token":"revoked","expires_at":"2026-03-01T12:30:00Z"}}`)
	if imported.Code != http.StatusCreated {
		t.Fatalf("%d %s", imported.Code, imported.Body)
	}
	list, err := s.Broker.Connections(t.Context(), broker.System(s.Env.ID), broker.ConnectionFilter{Key: "their-name"})
	must(t, err)
	id := "conn_" + string(list[0].ID)
	if got := s.status(t, id); got != "active" {
		t.Errorf("imported: %s", got)
	}
	if begun := s.begun(t, "stripe", ""); !begun.IsNew {
		t.Error("an end user's connection stands in the way of the app's own")
	}
	if w := s.Send(t, http.MethodGet, "/connection/their-name?provider_config_key=stripe&force_refresh=true", ""); w.Code == http.StatusOK {
		t.Fatalf("renewed: %s", w.Body)
	}
	if got := s.status(t, id); got != "error" {
		t.Errorf("after a renewal that failed there: %s", got)
	}
	if code, got := s.call(t, http.MethodDelete, "/"+id, ""); code != http.StatusOK {
		t.Errorf("%d %s", code, got.text)
	}
	if w := s.Send(t, http.MethodGet, "/connection/their-name?provider_config_key=stripe", ""); w.Code != http.StatusNotFound && w.Code != http.StatusBadRequest {
		t.Errorf("deleted: %d %s", w.Code, w.Body)
	}
}

// Going on by offset from page to page shows every connection once.
func TestPagesGoOn(t *testing.T) {
	s := newSite(t)
	const all = 7
	for n := range all {
		s.Advance(1)
		code, got := s.call(t, http.MethodPost, "", `{"name":"`+strconv.Itoa(n)+`","provider":"stripe"}`)
		if code != http.StatusCreated {
			t.Fatalf("%d %s", code, got.text)
		}
	}
	var names []string
	for offset := 0; ; {
		_, got := s.call(t, http.MethodGet, "?limit=3&offset="+strconv.Itoa(offset), "")
		var page struct {
			Data []struct{ Name string }
			Meta struct{ HasMore bool }
		}
		must(t, json.Unmarshal([]byte(got.text), &page))
		for _, c := range page.Data {
			names = append(names, c.Name)
		}
		offset += len(page.Data)
		if !page.Meta.HasMore {
			break
		}
	}
	if got := strings.Join(names, ""); got != "6543210" {
		t.Errorf("the pages hold %s", got)
	}
}

// Fifty are listed where nobody says how many.
func TestADefaultPage(t *testing.T) {
	s := newSite(t)
	for range 51 {
		s.imported(t, "refresh-token")
	}
	for query, want := range map[string]int{"": 50, "?limit=100": 51, "?limit=51": 51, "?provider=stripe": 50, "?offset=50": 1} {
		_, got := s.call(t, http.MethodGet, query, "")
		if n := strings.Count(got.text, `"id":`); n != want || strings.Contains(got.text, `"hasMore":true`) != (want == 50) {
			t.Errorf("%q lists %d: %s", query, n, got.text[len(got.text)-30:])
		}
	}
}
