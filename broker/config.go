package broker

import (
	"bytes"
	"encoding/json"
	"maps"
	"strconv"
	"strings"
)

// secretConfig marks details of a credential that are connection config which its entry declares secret: they are sealed
// with the credential and never stand in the connection's row.
const secretConfig = "connection_config."

// configValues gives connection config as strings, as templates read it, with the secret fields put back. Lists and
// objects are left out: no template can use them.
func configValues(config []byte, details map[string]Secret) map[string]string {
	if len(config) <= len("{}") && len(details) == 0 {
		return nil
	}
	out := make(map[string]string)
	for k, v := range decodeObject(config) {
		switch v := v.(type) {
		case string:
			out[k] = v
		case json.Number:
			out[k] = v.String()
		case bool:
			out[k] = strconv.FormatBool(v)
		}
	}
	maps.Copy(out, revealedConfig(details))
	return out
}

// revealedConfig gives the secret fields of connection config.
func revealedConfig(details map[string]Secret) map[string]string {
	out := make(map[string]string)
	for k, v := range details {
		if name, ok := strings.CutPrefix(k, secretConfig); ok {
			out[name] = v.Reveal()
		}
	}
	return out
}

// decodeObject reads a JSON object of ours; numbers keep all their digits.
func decodeObject(raw []byte) map[string]any {
	if len(raw) <= len("{}") {
		return nil
	}
	var out map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&out) != nil {
		return nil
	}
	return out
}

// encodeObject writes a JSON object; nil for an empty one.
func encodeObject[V any](m map[string]V) ([]byte, error) {
	if len(m) == 0 {
		return nil, nil
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, ErrInternal.Because(err)
	}
	return raw, nil
}

// mergeConfig lays values over connection config.
func mergeConfig(config []byte, values map[string]string) ([]byte, error) {
	out := decodeObject(config)
	if out == nil {
		out = make(map[string]any, len(values))
	}
	for k, v := range values {
		out[k] = v
	}
	return encodeObject(out)
}

// splitConfig takes the secret fields out of connection config, into the credential's details.
func splitConfig(f *Facts, config map[string]any, m *Material) map[string]any {
	out := maps.Clone(config)
	for i := range f.Fields {
		field := &f.Fields[i]
		if field.Section != ConfigField || !field.Secret {
			continue
		}
		text, ok := out[field.Name].(string)
		if !ok {
			continue
		}
		delete(out, field.Name)
		if m.Details == nil {
			m.Details = make(map[string]Secret)
		}
		m.Details[secretConfig+field.Name] = NewSecret(text)
	}
	return out
}

// ConfigOf gives a connection's config without what is secret.
func (b *Broker) ConfigOf(c *Connection) map[string]any {
	if out := decodeObject(c.Config); out != nil {
		return out
	}
	return map[string]any{}
}

func anyValues(in map[string]string) map[string]any {
	out := make(map[string]any, len(in))
	for k, v := range in {
		out[k] = v
	}
	return out
}
