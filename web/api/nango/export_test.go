package nango

import "github.com/coatcheck/coatcheck/broker"

// CredentialsOf is how a credential is written.
func CredentialsOf(m *broker.Material) map[string]any { return credentialsOf(m) }
