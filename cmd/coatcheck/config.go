package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/coatcheck/coatcheck/broker"
)

// config is the configuration file. Every field works at its zero value.
type config struct {
	Listen         string                       `yaml:"listen"`
	PublicURL      string                       `yaml:"public_url"`
	Data           string                       `yaml:"data"`
	Database       string                       `yaml:"database"`
	Encryption     encryptionConfig             `yaml:"encryption"`
	Providers      []string                     `yaml:"providers"`
	Egress         egressConfig                 `yaml:"egress"`
	TrustedProxies []string                     `yaml:"trusted_proxies"`
	Limits         limitsConfig                 `yaml:"limits"`
	Environments   map[string]environmentConfig `yaml:"environments"`

	dir     string // what relative paths are relative to
	proxies []netip.Prefix
}

type encryptionConfig struct {
	IdentityFile string `yaml:"identity_file"`
	Identity     string `yaml:"identity"`
}

type egressConfig struct {
	Allow     []string `yaml:"allow"`
	Proxy     string   `yaml:"proxy"` // a URL, perhaps with a password in it
	ProxyFile string   `yaml:"proxy_file"`
}

// limitsConfig bounds what the broker takes on. Zero stands for the default.
type limitsConfig struct {
	ProxyBody          int64   `yaml:"proxy_body"` // bytes; zero: no limit
	ProxyConcurrent    int     `yaml:"proxy_concurrent"`
	ProxyPerConnection int     `yaml:"proxy_per_connection"`
	PublicRate         float64 `yaml:"public_rate"` // requests a second and address without a credential
	PublicBurst        int     `yaml:"public_burst"`
	RefreshConcurrency int     `yaml:"refresh_concurrency"`
	RefreshPerHost     int     `yaml:"refresh_per_host"`
	CachedConnections  int     `yaml:"cached_connections"`
	Connections        int     `yaml:"connections"` // open sockets; zero: 20,000
	// Of one address that is no trusted proxy; zero: no limit but that of all.
	ConnectionsPerAddress int     `yaml:"connections_per_address"`
	RequestsPerKey        float64 `yaml:"requests_per_key"`       // a second; zero: no limit
	RequestsPerKeyBurst   int     `yaml:"requests_per_key_burst"` // at once; zero: what a second brings
}

type environmentConfig struct {
	SecretKey      string                       `yaml:"secret_key"`
	SecretKeyFile  string                       `yaml:"secret_key_file"`
	AllowedOrigins []string                     `yaml:"allowed_origins"`
	ReturnURLs     []string                     `yaml:"return_urls"`
	Name           string                       `yaml:"name"`
	Start          string                       `yaml:"start"`
	Webhook        *webhookConfig               `yaml:"webhook"`
	Integrations   map[string]integrationConfig `yaml:"integrations"`
}

// webhookConfig says where an app wants to be told, and of what. A switch that is not set is on.
type webhookConfig struct {
	URL                string `yaml:"url"`
	SecondaryURL       string `yaml:"secondary_url"`
	Secret             string `yaml:"secret"`
	SecretFile         string `yaml:"secret_file"`
	OnAuthCreation     *bool  `yaml:"on_auth_creation"`
	OnAuthRefreshError *bool  `yaml:"on_auth_refresh_error"`
	LegacySignature    *bool  `yaml:"legacy_signature"`
}

type integrationConfig struct {
	Provider          string            `yaml:"provider"`
	DisplayName       string            `yaml:"display_name"`
	ClientID          string            `yaml:"client_id"`
	ClientSecret      string            `yaml:"client_secret"`
	ClientSecretFile  string            `yaml:"client_secret_file"`
	WebhookSecret     string            `yaml:"webhook_secret"`
	WebhookSecretFile string            `yaml:"webhook_secret_file"`
	Scopes            []string          `yaml:"scopes"`
	Shared            bool              `yaml:"shared"`
	Hosts             []string          `yaml:"hosts"`
	Custom            map[string]string `yaml:"custom"`
	IntegrationConfig map[string]string `yaml:"integration_config"`
}

// defaultConfigFile is read if it is there and no other is named.
const defaultConfigFile = "coatcheck.yaml"

const defaultListen = "127.0.0.1:3003"

// overrides are the flags that lie over everything else.
type overrides struct {
	Config    string `help:"Configuration file; ./coatcheck.yaml if that is there." placeholder:"FILE"`
	Listen    string `help:"Address to listen on, such as 127.0.0.1:3003." placeholder:"ADDR"`
	Data      string `help:"Directory of the database." placeholder:"DIR"`
	PublicURL string `name:"public-url" help:"The origin under which browsers and providers reach the broker." placeholder:"URL"`
}

// loadConfig puts the configuration together: flag, environment variable, file, default. It reports every problem.
func loadConfig(env environ, o overrides) (*config, error) {
	c, err := readConfig(env, o.Config)
	if err != nil {
		return nil, err
	}
	if err := c.fromEnvironment(env); err != nil {
		return nil, err
	}
	// A path in a flag is relative to where the command was typed.
	for _, x := range []struct {
		to   *string
		from string
	}{{&c.Listen, o.Listen}, {&c.Data, absolute(o.Data)}, {&c.PublicURL, o.PublicURL}} {
		if x.from != "" {
			*x.to = x.from
		}
	}
	c.setDefaults()
	return c, c.validate()
}

func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// readConfig reads the file: strictly, so that a misspelt key does not silently mean its default.
func readConfig(env environ, file string) (*config, error) {
	named := file != ""
	if !named {
		file = defaultConfigFile
	}
	c := &config{dir: filepath.Dir(absolute(file))}
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if len(strings.TrimSpace(string(raw))) == 0 {
		return c, nil
	}
	if err := yaml.Load(raw, c, yaml.WithKnownFields()); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if literalPassword(c.Egress.Proxy) {
		return nil, fmt.Errorf("%s: egress.proxy: a password is not written here; take it from a variable, as ${NAME}, or put the URL into a file and name that in egress.proxy_file", file)
	}
	if what := databasePassword(c.Database); what != "" {
		return nil, fmt.Errorf("%s: database: %s; take it from a variable, as ${NAME}, or leave it out and set PGPASSWORD or PGPASSFILE", file, what)
	}
	if err := expandAll(env, reflect.ValueOf(c).Elem()); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// literalPassword reports whether a URL has something of a password in front of its host that does not come from a
// variable. A user name alone is taken for one: some proxies ask for a token in its place.
func literalPassword(raw string) bool {
	text := variable.ReplaceAllString(raw, "")
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return false
	}
	user := text[:at]
	if _, after, ok := strings.Cut(user, "//"); ok {
		user = after
	}
	return user != "" && !strings.HasSuffix(user, ":")
}

// databasePassword says what is wrong with a database's address that has something of a password which does not come from a
// variable; empty: nothing.
func databasePassword(raw string) string {
	text := variable.ReplaceAllString(raw, "")
	u, err := url.Parse(text)
	switch {
	case err != nil && (strings.Contains(text, "@") || strings.Contains(text, "password")): // what cannot be read may be one
		return "the address cannot be read, and may have a password in it, which is not written here"
	case err != nil:
		return ""
	}
	password, _ := u.User.Password()
	if password != "" || u.Query().Get("password") != "" || u.Query().Get("sslpassword") != "" {
		return "a password is not written here"
	}
	return ""
}

// expandAll replaces ${NAME} in every text of the configuration.
func expandAll(env environ, v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		if !v.CanSet() {
			return nil
		}
		s, err := env.expand(v.String())
		v.SetString(s)
		return err
	case reflect.Pointer:
		if !v.IsNil() {
			return expandAll(env, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if err := expandAll(env, v.Field(i)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := expandAll(env, v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem() // a map's values cannot be set in place
			value.Set(v.MapIndex(key))
			if err := expandAll(env, value); err != nil {
				return err
			}
			v.SetMapIndex(key, value)
		}
	default: // numbers and switches hold no variables
	}
	return nil
}

// envPrefix begins the environment variables that stand for settings above environments.
const envPrefix = "COATCHECK_"

// fromEnvironment lays environment variables over the file. A list's items are separated by commas.
func (c *config) fromEnvironment(env environ) error {
	return overlay(env, envPrefix, reflect.ValueOf(c).Elem())
}

func overlay(env environ, prefix string, v reflect.Value) error {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("yaml")
		if tag == "" || tag == "environments" {
			continue
		}
		name, field := prefix+strings.ToUpper(tag), v.Field(i)
		if field.Kind() == reflect.Struct {
			if err := overlay(env, name+"_", field); err != nil {
				return err
			}
			continue
		}
		value, ok := env[name]
		if !ok {
			continue
		}
		if err := assign(field, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func assign(field reflect.Value, value string) error {
	switch field.Kind() {
	case reflect.String:
		field.SetString(value)
	case reflect.Slice:
		var list []string
		for _, item := range strings.Split(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		field.Set(reflect.ValueOf(list))
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return errors.New("not a whole number")
		}
		field.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return errors.New("not a number")
		}
		field.SetFloat(n)
	default:
		return fmt.Errorf("a %s cannot be set by a variable", field.Kind())
	}
	return nil
}

// setDefaults fills in what nobody set.
func (c *config) setDefaults() {
	if c.Listen == "" {
		c.Listen = defaultListen
	}
	if c.PublicURL == "" {
		port := "3003"
		if _, p, err := net.SplitHostPort(c.Listen); err == nil {
			port = p
		}
		c.PublicURL = "http://localhost:" + port
	}
	c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	if c.Data == "" {
		c.Data = "data"
	}
	c.Data = within(c.dir, c.Data)
	if c.Encryption.IdentityFile == "" {
		c.Encryption.IdentityFile = filepath.Join(c.Data, "identity.txt")
	}
	c.Encryption.IdentityFile = within(c.dir, c.Encryption.IdentityFile)
	if c.Database == "" {
		c.Database = "sqlite"
	}
}

// dev reports whether the public URL is on this machine.
func (c *config) dev() bool {
	u, err := url.Parse(c.PublicURL)
	return err == nil && broker.Loopback(u.Hostname())
}

// validate reports every problem at once.
func (c *config) validate() error {
	var errs []error
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		errs = append(errs, fmt.Errorf("listen: %q is not an address such as 127.0.0.1:3003", c.Listen))
	}
	u, err := url.Parse(c.PublicURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme+"://"+u.Host != c.PublicURL:
		errs = append(errs, fmt.Errorf("public_url: %q is not an origin such as https://connect.example.com", c.PublicURL))
	case u.Scheme != "https" && !c.dev():
		errs = append(errs, errors.New("public_url: must be https, except on this machine"))
	}
	for _, p := range c.TrustedProxies {
		prefix, err := parsePrefix(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("trusted_proxies: %q is neither an address nor a network", p))
			continue
		}
		c.proxies = append(c.proxies, prefix)
	}
	errs = append(errs, c.Limits.validate())
	for name, e := range c.Environments {
		if e.Start != "" && !slices.Contains([]string{"auto", "page", "redirect"}, e.Start) {
			errs = append(errs, fmt.Errorf("environments.%s.start: must be auto, page or redirect", name))
		}
		for key, i := range e.Integrations {
			if i.Provider == "" {
				errs = append(errs, fmt.Errorf("environments.%s.integrations.%s: provider is missing", name, key))
			}
		}
	}
	return errors.Join(errs...)
}

func (l *limitsConfig) validate() error {
	var errs []error
	v := reflect.ValueOf(l).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		good := f.CanInt() && f.Int() >= 0 || f.CanFloat() && f.Float() >= 0 && f.Float() <= math.MaxInt32
		if !good {
			errs = append(errs, fmt.Errorf("limits.%s: must be a number from zero up", v.Type().Field(i).Tag.Get("yaml")))
		}
	}
	if l.RequestsPerKeyBurst > 0 && l.RequestsPerKey == 0 {
		errs = append(errs, errors.New("limits.requests_per_key_burst: means nothing without requests_per_key"))
	}
	return errors.Join(errs...)
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// declared gives what the file says about environments, sorted by name, with the secrets read from their files.
func (c *config) declared() ([]broker.DeclaredEnvironment, error) {
	var out []broker.DeclaredEnvironment
	var errs []error
	for _, name := range sortedKeys(c.Environments) {
		e := c.Environments[name]
		path := "environments." + name
		key, err := secretFrom(path+".secret_key", e.SecretKey, e.SecretKeyFile, c.dir)
		errs = append(errs, err)
		d := broker.DeclaredEnvironment{
			Environment: broker.Environment{
				Name: name, DisplayName: e.Name, AllowedOrigins: e.AllowedOrigins, ReturnURLs: e.ReturnURLs, Start: broker.StartMode(e.Start),
			},
			SecretKey: broker.NewSecret(key),
		}
		d.Webhook, err = c.webhook(path+".webhook", e.Webhook)
		errs = append(errs, err)
		for _, key := range sortedKeys(e.Integrations) {
			in, err := c.integration(path+".integrations."+key, key, e.Integrations[key])
			errs = append(errs, err)
			d.Integrations = append(d.Integrations, in)
		}
		out = append(out, d)
	}
	return out, errors.Join(errs...)
}

func (c *config) integration(path, key string, i integrationConfig) (broker.IntegrationInput, error) {
	client, err := secretFrom(path+".client_secret", i.ClientSecret, i.ClientSecretFile, c.dir)
	webhook, err2 := secretFrom(path+".webhook_secret", i.WebhookSecret, i.WebhookSecretFile, c.dir)
	settings := make(map[string]string)
	for _, m := range []map[string]string{i.Custom, i.IntegrationConfig} {
		for k, v := range m {
			settings[k] = v
		}
	}
	if len(settings) == 0 {
		settings = nil
	}
	return broker.IntegrationInput{
		Key: key, Provider: i.Provider, DisplayName: i.DisplayName, ClientID: i.ClientID, ClientSecret: broker.NewSecret(client),
		WebhookSecret: broker.NewSecret(webhook), Scopes: i.Scopes, Settings: settings, Hosts: i.Hosts, Shared: i.Shared, ForwardWebhooks: true,
	}, errors.Join(err, err2)
}

func (c *config) webhook(path string, w *webhookConfig) (broker.DeclaredWebhook, error) {
	if w == nil {
		return broker.DeclaredWebhook{}, nil
	}
	secret, err := secretFrom(path+".secret", w.Secret, w.SecretFile, c.dir)
	off := func(b *bool) bool { return b != nil && !*b }
	return broker.DeclaredWebhook{
		URL: w.URL, SecondaryURL: w.SecondaryURL, Key: broker.NewSecret(secret), MuteCreation: off(w.OnAuthCreation),
		MuteRefreshErrors: off(w.OnAuthRefreshError), NoLegacySignature: off(w.LegacySignature),
	}, err
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
