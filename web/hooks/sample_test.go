package hooks

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// driver plays cases against the function that the guide shows, and prints which it accepted.
const driver = `
import { verify } from "./verify.mjs";
import { readFileSync } from "node:fs";
const accepted = JSON.parse(readFileSync(0, "utf8")).map((c) => {
  try { return JSON.stringify(verify(c.secret, c.headers, c.body, c.now)) === c.body; } catch { return false; }
});
console.log(JSON.stringify(accepted));
`

type sampleCase struct {
	Secret  string            `json:"secret"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Now     int64             `json:"now"` // in milliseconds
	want    bool
	name    string
}

// The code that docs/webhooks.md tells receivers to use accepts what we send, and nothing else.
func TestTheGuidesCode(t *testing.T) {
	guide, err := os.ReadFile("../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, ok := strings.Cut(string(guide), "```js\n")
	code, _, closed := strings.Cut(code, "```")
	if !ok || !closed {
		t.Fatal("the guide shows no code")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"verify.mjs": code, "driver.mjs": driver} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cases := sampleCases()
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "driver.mjs"))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var accepted []bool
	if err := json.Unmarshal(out, &accepted); err != nil || len(accepted) != len(cases) {
		t.Fatalf("%s: %v", out, err)
	}
	for i, c := range cases {
		if accepted[i] != c.want {
			t.Errorf("%s: accepted is %t", c.name, accepted[i])
		}
	}
}

func sampleCases() []sampleCase {
	const standard, other, plain = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx", "11111111-2222-4333-8444-555555555555"
	made := func(name string, want bool, secret string, keys ...string) sampleCase {
		p := &broker.Parcel{ID: "event-1", At: now}
		for _, k := range keys {
			p.Keys = append(p.Keys, broker.NewSecret(k))
		}
		h := http.Header{}
		sign(h, p, []byte(body))
		c := sampleCase{Secret: secret, Headers: map[string]string{}, Body: body, Now: now.UnixMilli(), want: want, name: name}
		for k := range h {
			c.Headers[strings.ToLower(k)] = h.Get(k)
		}
		return c
	}
	late, early := made("late", false, standard, standard), made("early", false, standard, standard)
	late.Now += (5*time.Minute + time.Second).Milliseconds()
	early.Now -= (5*time.Minute + time.Second).Milliseconds()
	forged, renamed := made("another body", false, standard, standard), made("another id", false, standard, standard)
	forged.Body = strings.Replace(forged.Body, "c-123", "c-124", 1)
	renamed.Headers["webhook-id"] = "event-2"
	return []sampleCase{
		made("the key", true, standard, standard), made("a key of another form", true, plain, plain), made("another key", false, other, standard),
		made("the new key of two", true, standard, standard, other), made("the old key of two", true, other, standard, other),
		late, early, forged, renamed,
	}
}
