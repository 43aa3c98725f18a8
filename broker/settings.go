package broker

import (
	"maps"
	"slices"
)

// settingsPlace binds secret settings as a client secret is bound.
func settingsPlace(i *Integration) place {
	return place{environment: i.Environment, column: columnSettings, row: string(i.ID), origin: i.TokenOrigin}
}

// givesSecret reports whether settings hold a value for one that is secret.
func (f *Facts) givesSecret(settings map[string]string) bool {
	return slices.ContainsFunc(f.SecretSettings, func(name string) bool { return settings[name] != "" })
}

// sealSettings takes what is secret out of an integration's settings and seals it.
func (b *Broker) sealSettings(i *Integration) error {
	i.SecretSettings = nil
	f := b.factsOf(i)
	if f == nil || !f.givesSecret(i.Settings) {
		return nil
	}
	open, secret := maps.Clone(i.Settings), make(map[string]string)
	for _, name := range f.SecretSettings {
		if v := open[name]; v != "" {
			secret[name] = v
		}
		delete(open, name)
	}
	var err error
	i.Settings = open
	i.SecretSettings, err = b.sealJSON(settingsPlace(i), secret)
	return err
}

// settings gives all of an integration's settings. Where what is secret cannot be opened, it gives the others with the
// error.
func (b *Broker) settings(i *Integration) (map[string]string, error) {
	if len(i.SecretSettings) == 0 {
		return i.Settings, nil
	}
	secret := make(map[string]string)
	if err := b.openJSON(settingsPlace(i), i.SecretSettings, &secret); err != nil {
		return i.Settings, err
	}
	maps.Copy(secret, i.Settings)
	return secret, nil
}
