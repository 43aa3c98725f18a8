package providers

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// A catalogue with problems still says what is good of it, and which file each entry is from.
func TestExamineGivesWhatIsGoodOfAFile(t *testing.T) {
	o := options(t, "good:\n  display_name: Good\n  auth_mode: NONE\nbad:\n  display_name: Bad\n  auth_mode: NONE\n  wings: 2\n")
	o.Builtin = builtin(t)
	c, problems := Examine(o)
	if len(problems) != 1 || problems[0].Line != 7 || problems[0].Entry != "bad" {
		t.Fatalf("problems: %v", problems)
	}
	if _, ok := c.Provider("good"); !ok || c.File("good") != o.Overlays[0].Name {
		t.Errorf("the good entry: %t, from %q", ok, c.File("good"))
	}
	if _, ok := c.Provider("bad"); ok {
		t.Error("the bad entry can be had")
	}
	if from := c.File("github"); from != "" {
		t.Errorf("a built-in entry is from %q", from)
	}
}

// What Source gives can lie over the catalogue and changes nothing.
func TestSourceIsTheEntryItself(t *testing.T) {
	c := loadBuiltin(t)
	alias := regexp.MustCompile(`,"alias":"[a-z-]+"`)
	for _, name := range []string{"google-drive", "quickbooks-sandbox", "slack", "shopify"} {
		text, err := c.Source(name)
		if err != nil {
			t.Fatal(name, err)
		}
		if strings.Contains(string(text), "alias:") {
			t.Errorf("%s: the alias is not resolved", name)
		}
		over, err := Load(options(t, string(text)))
		if err != nil {
			t.Fatal(name, err)
		}
		a, _ := c.Provider(name)
		b, _ := over.Provider(name)
		before, after := *a.Facts(), *b.Facts()
		before.Template = alias.ReplaceAll(before.Template, nil)
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s: %s became %s", name, before.Template, after.Template)
		}
	}
	if _, err := c.Source("nosuch"); err == nil {
		t.Error("there is a source of what there is not")
	}
}

// A warning has a date and a text; the form of a client id is a regular expression.
func TestNoticesAreChecked(t *testing.T) {
	for _, wrong := range []string{
		"warnings: [{date: soon, text: a}]", "warnings: [{date: 2027-02-30, text: a}]", "warnings: [{date: 2027-02-16}]", "client_id_pattern: \"[\"",
	} {
		if _, err := Load(options(t, "a:\n  display_name: A\n  auth_mode: NONE\n  "+wrong+"\n")); err == nil {
			t.Errorf("%s: loaded", wrong)
		}
	}
}
