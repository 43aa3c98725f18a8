package oidcprovider

import (
	"embed"
	"sync"

	"github.com/coatcheck/coatcheck/providers/providertest/npm"
)

//go:embed package.json package-lock.json
var packageFiles embed.FS

// modules gives the folder of the installed npm packages.
var modules = sync.OnceValues(func() (string, error) { return npm.Modules("oidc-provider", packageFiles) })
