package nango_test

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// noise is a text that no database can make shorter.
func noise(alphabet string, n int) string {
	letters := []rune(alphabet)
	var b strings.Builder
	for range n {
		b.WriteRune(letters[rand.IntN(len(letters))])
	}
	return b.String()
}

const (
	narrow = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	wide   = "😀😁😂😃😄😅😆😇😈😉😊😋😌😍😎😏😐😑😒😓😔😕😖😗😘😙😚😛😜😝😞😟😠😡😢😣😤😥😦😧😨😩😪😫😬😭😮😯😰😱😲😳😴😵😶😷😸😹😺😻😼😽😾😿🙀🙁🙂🙃🙄🙅🙆🙇"
)

// The longest values that are let in are stored by both databases, whose indexes have bounds of their own; and one
// character more is refused with the name of what is too long.
func TestTheLongestValues(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const key = `"provider_config_key":"mail-prod","credentials":{"type":"API_KEY","apiKey":"k"}`
	hook := "https://own.example.com/"
	texts := []struct{ body, path, value string }{
		{`"connection_id":"%"`, `"connection_id"`, noise(narrow, 255)},
		{`"end_user":{"id":"%"}`, `"end_user","id"`, noise(wide, 255)},
		{`"end_user":{"id":"u","display_name":"%"}`, `"end_user","display_name"`, noise(wide, 255)},
		{`"tags":{"k":"%"}`, `"tags","k"`, noise(wide, 255)},
		{`"webhook_url_override":"%"`, `"webhook_url_override"`, hook + noise(narrow, 2048-len(hook))},
	}
	for _, x := range texts {
		body := func(value string) string { return strings.Replace(x.body, "%", value, 1) }
		s.send(t, http.MethodPost, "/connections", "{"+key+","+body(x.value)+"}").is(t, http.StatusCreated, "")
		s.send(t, http.MethodPost, "/connections", "{"+key+","+body(x.value+"x")+"}").is(t, http.StatusBadRequest, "invalid_body").
			has(t, `"too_big"`, `"path":[`+x.path+`]`)
		if strings.HasPrefix(x.path, `"connection_id`) {
			continue // a session has none, and one is not changed
		}
		user := `"end_user":{"id":"u"},`
		if strings.Contains(x.body, "end_user") {
			user = ""
		}
		s.send(t, http.MethodPost, "/connect/sessions", "{"+user+body(x.value)+"}").is(t, http.StatusCreated, "")
		s.send(t, http.MethodPost, "/connect/sessions", "{"+user+body(x.value+"x")+"}").is(t, http.StatusBadRequest, "invalid_body").
			has(t, `"too_big"`, `"path":[`+x.path+`]`)
		s.keyed(t, "c")
		s.send(t, http.MethodPatch, "/connections/c?provider_config_key=mail-prod", "{"+body(x.value)+"}").is(t, http.StatusOK, "")
		s.send(t, http.MethodPatch, "/connections/c?provider_config_key=mail-prod", "{"+body(x.value+"x")+"}").
			is(t, http.StatusBadRequest, "invalid_body").has(t, `"too_big"`, `"path":[`+x.path+`]`)
	}
	name := noise(wide, 255)
	s.send(t, http.MethodPost, "/integrations", `{"provider":"mail","unique_key":"`+noise(narrow, 255)+`","display_name":"`+name+`"}`).
		is(t, http.StatusOK, "").has(t, name)
}

// All of them at once, in a sign-in and in all that it leaves behind.
func TestTheLongestValuesOfASignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hook := "https://own.example.com/"
	in := broker.SessionInput{
		EndUser: &broker.EndUser{ID: noise(wide, 255)}, Tags: map[string]string{"k": noise(wide, 255)}, WebhookURL: hook + noise(narrow, 2048-len(hook)),
	}
	token := s.Session(t, in)
	s.send(t, http.MethodPost, "/api-auth/api-key/mail-prod?"+kit.ParamSession+"="+token, `{"apiKey":"k"}`, "Authorization", "").is(t, http.StatusOK, "")
	id := noise(narrow, 255)
	s.imports(t, id, `,"end_user":{"id":"`+in.EndUser.ID+`"},"webhook_url_override":"`+in.WebhookURL+`"`)
	s.send(t, http.MethodDelete, "/connections/"+id+"?provider_config_key=mail-prod", "").is(t, http.StatusOK, "")
	in.EndUser = &broker.EndUser{ID: in.EndUser.ID + "x"}
	_, _, err := s.Broker.CreateSession(t.Context(), broker.System(s.Env.ID), in)
	if e := broker.AsError(err); e.Code != "invalid_request" || e.Field != "end_user.id" {
		t.Errorf("got %v on %q", err, e.Field)
	}
}
