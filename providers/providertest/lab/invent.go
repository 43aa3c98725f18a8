package lab

import (
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/url"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// Client is an integration as its provider knows it.
type Client struct {
	ID, Secret string
	Settings   map[string]string
	Hosts      []string // that users may name
}

// User is somebody with an account. N tells users apart; those with an odd one have the other of two oddities where an
// entry leaves open which.
type User struct {
	N           int
	Typed       map[string]string // connection config that they give
	Answered    map[string]string // connection config that the provider tells
	Credentials map[string]string // that they type in
	Account     string            // the account's id, where the provider is asked for it
	Scopes      []string          // that they are asked for
}

// Client invents an integration. Its secret has characters that mean something in headers and forms.
func (e *Entry) Client() *Client {
	c := &Client{Settings: map[string]string{}}
	if slices.Contains([]string{modeOAuth2, modeOAuth1, modeTBA, modeApp, modeCustom, modePlugin}, e.Mode()) || e.Mode() == modeMCP && e.text("client_registration") == "static" {
		c.ID, c.Secret = "client-of-"+e.Name, "s3cret+of/"+e.Name+"=%41&"
	}
	switch e.Mode() {
	case modeApp:
		c.Settings["app_link"] = e.example("connection_config", "appPublicLink", 0)
	case modeCustom:
		c.Settings["app_link"] = e.example("connection_config", "appPublicLink", 0)
		c.Settings["app_id"] = "654321"
		c.Settings["private_key"] = privatePEM(keys[keyOfClient].rsa(), keyOfClient)
	case modePlugin:
		c.Settings["app_link"] = "https://app.lab.example/initiate/plugin/1/"
	}
	if e.assertsKey() && c.ID != "" || e.Mode() == modeApp {
		c.Secret = privatePEM(keys[keyOfClient].rsa(), keyOfClient)
	}
	for _, name := range e.names("integration_config") {
		if e.generic() && e.at("integration_config", name, "optional") == true {
			continue // they are about a client of the integration's own, which there is not
		}
		if field := e.text("integration_config", name, "visible_when", "field"); field != "" &&
			e.example("integration_config", field, 0) != e.text("integration_config", name, "visible_when", "equals") {
			continue
		}
		if v := e.example("integration_config", name, 0); v != "" {
			c.Settings[name] = v
		}
	}
	for _, name := range e.names("connection_config") {
		v := strings.TrimPrefix(e.example("connection_config", name, 0), "https://")
		if host, _, _ := strings.Cut(v, "/"); strings.Contains(host, ".") {
			c.Hosts = append(c.Hosts, host)
		}
	}
	return c
}

// User invents a user, who fills in what the entry shows as examples.
func (e *Entry) User(n int) *User {
	u := &User{
		N: n, Typed: map[string]string{}, Answered: map[string]string{}, Credentials: map[string]string{},
		Account: "account-" + strconv.Itoa(n), Scopes: e.list("default_scopes"),
	}
	if n%2 == 1 {
		u.Account = "900719925474099" + strconv.Itoa(n) // too long a number for those who count in floating point
		u.Scopes = append(u.Scopes, "lab.one", "lab.two")
	}
	for _, name := range e.names("connection_config") {
		v := e.example("connection_config", name, n)
		switch {
		case e.at("connection_config", name, "automated") == true:
			u.Answered[name] = v
		case e.at("connection_config", name, "hidden") != true:
			u.Typed[name] = v
		}
	}
	if e.Mode() == modeApp || e.Mode() == modeCustom {
		u.Answered["installation_id"], u.Answered["account_id"] = "1234567"+strconv.Itoa(n+1), "100"+strconv.Itoa(n)
		delete(u.Answered, "appPublicLink") // the integration knows it
	}
	for _, name := range e.credentialNames() {
		hidden, optional := e.at("credentials", name, "hidden") == true, e.at("credentials", name, "optional") == true
		if !hidden && !(optional && n%2 == 1) { // some leave out what they may
			u.Credentials[name] = e.invented("credentials", name, n)
		}
	}
	if e.Mode() == modeAWS {
		u.Answered["role_arn"] = u.Credentials["role_arn"]
		if u.Answered["region"] = u.Credentials["region"]; u.Answered["region"] == "" {
			u.Answered["region"] = e.example("integration_config", "defaultRegion", 0)
		}
	}
	if own := u.Typed["oauth_scopes"]; own != "" {
		u.Scopes = strings.Split(own, ",")
	}
	if e.generic() {
		u.Typed["mcp_server_url"] = e.serverAddress(n)
		if n%2 == 0 {
			u.Scopes = append(e.challengeScopes(), "offline_access")
		}
	}
	for _, told := range [][]string{e.list("token_response_metadata"), e.list("redirect_uri_metadata"), e.names("post_connection", "capture")} {
		for _, name := range told {
			if u.Answered[name] == "" && u.Typed[name] == "" {
				u.Answered[name] = "told-" + strings.ReplaceAll(name, ".", "-") + "-" + strconv.Itoa(n)
			}
		}
	}
	return u
}

// credentialNames lists what users are asked for, by the mode or by the entry.
func (e *Entry) credentialNames() []string {
	names := e.names("credentials")
	if e.assertsKey() && e.Mode() == modeClientCredentials {
		return names // a key takes the secret's place
	}
	for _, name := range map[string][]string{
		modeAPIKey: {"apiKey"}, modeBasic: {"username", "password"}, modeSignature: {"username", "password"}, modeClientCredentials: {"client_id", "client_secret"},
		modeBill: {"username", "password", "organization_id", "dev_key"},
	}[e.Mode()] {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// example is what a field shows, or what it holds if nothing is typed, or something of its form.
func (e *Entry) example(section, name string, n int) string {
	shown := e.text(section, name, "example")
	switch {
	case shown != "" && !strings.HasSuffix(shown, "..."):
		return shown
	case e.text(section, name, "default_value") != "":
		return e.text(section, name, "default_value")
	case e.has(section, name, "enum"):
		return e.list(section, name, "enum")[0]
	}
	return e.invented(section, name, n)
}

// invented is text of a field's form, another for each user.
func (e *Entry) invented(section, name string, n int) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(e.Name + " " + name))
	draw := rand.New(rand.NewPCG(h.Sum64(), uint64(n))) //nolint:gosec // the same in each run, so that a failure can be seen again
	switch {
	case section == "credentials" && name == "client_private_key" && e.assertsKey():
		return clientJWK(n)
	case section == "credentials" && name == "client_private_key" && e.wantsCertificate():
		return privatePEM(keys[n].ec(), n)
	case section == "credentials" && name == "client_certificate" && e.wantsCertificate():
		return certificate(n)
	case section == "credentials" && e.text("token", "signing_key") == "${credentials."+name+"}" && e.text("signature", "protocol") == "RSA":
		return privatePEM(keys[n].rsa(), n)
	case e.has(section, name, "enum"):
		return e.list(section, name, "enum")[0]
	case e.text(section, name, "pattern") != "":
		return sample(e.text(section, name, "pattern"), draw)
	case e.text(section, name, "format") == "email":
		return "user-" + strconv.Itoa(n) + "@lab.example"
	}
	return sample(`^lab_[a-z0-9]{24}$`, draw)
}

// sample draws a text that a pattern matches; "": the pattern cannot be read.
func sample(pattern string, draw *rand.Rand) string {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return ""
	}
	var b strings.Builder
	draws(re.Simplify(), draw, &b)
	return b.String()
}

func draws(re *syntax.Regexp, draw *rand.Rand, b *strings.Builder) {
	times := 1
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
		return
	case syntax.OpCharClass:
		b.WriteRune(oneOf(re.Rune, draw))
		return
	case syntax.OpAlternate:
		draws(re.Sub[draw.IntN(len(re.Sub))], draw, b)
		return
	case syntax.OpQuest:
		times = 0
	case syntax.OpStar, syntax.OpPlus:
		times = 12
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte('x')
		return
	}
	for range times {
		for _, sub := range re.Sub {
			draws(sub, draw, b)
		}
	}
}

// oneOf draws a character of a class, a letter or a digit if it has any.
func oneOf(class []rune, draw *rand.Rand) rune {
	var plain []rune
	for _, r := range "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		for i := 0; i+1 < len(class); i += 2 {
			if class[i] <= r && r <= class[i+1] {
				plain = append(plain, r)
			}
		}
	}
	if len(plain) == 0 {
		return class[0]
	}
	return plain[draw.IntN(len(plain))]
}

// typed gives what templates know of the fields that a user filled in, and of those that were left to their defaults.
func (e *Entry) typed(c *Client, u *User) values {
	v := values{"clientId": c.ID, "clientSecret": c.Secret}
	for name, value := range c.Settings {
		v["integrationConfig."+name] = value
	}
	for _, name := range e.names("connection_config") {
		if value := e.text("connection_config", name, "default_value"); value != "" {
			v["connectionConfig."+name] = value
		}
	}
	for name, value := range u.Typed {
		v["connectionConfig."+name] = value
	}
	if link := c.Settings["app_link"]; link != "" {
		v["connectionConfig.appPublicLink"] = link
	}
	for _, name := range e.names("credentials") {
		if e.has("credentials", name, "default_value") {
			v["credentials."+name] = e.text("credentials", name, "default_value")
		}
	}
	for name, value := range u.Credentials {
		v["credentials."+name] = value
		v[name] = value
	}
	maps.Copy(v, halves(u.Credentials))
	if id := u.Credentials["client_id"]; id != "" {
		v["clientId"], v["clientSecret"] = id, u.Credentials["client_secret"]
	}
	if e.Mode() == modeAPIKey || e.Mode() == modeBasic || c.ID == "" && u.Credentials["client_id"] == "" {
		delete(v, "clientId")
		delete(v, "clientSecret")
	}
	return v
}

// hostOf gives scheme and host of an address.
func hostOf(u *url.URL) string { return u.Scheme + "://" + u.Host }
