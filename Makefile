# `make` alone lists the targets. `make build` and `make demo` need Go and nothing else; the tools that other targets
# need are built once, at the versions below, into a folder outside the tree; build/setup.sh installs what tests need.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

GO ?= go
GO_MINIMUM := 1.26.6
GOLANGCI_LINT_VERSION := v2.15.0
# The generator and the library that its output calls are one release.
TEMPL_VERSION := $(shell sed -nE 's|.*github.com/a-h/templ (v[^ ]+).*|\1|p' go.mod)

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# How long `make fuzz` tries each target: a time, or a number of inputs such as 1000x. At the end of a time Go before 1.27
# may report "context deadline exceeded" without an input that fails (go.dev/issue/75804).
FUZZTIME ?= 60s
# How long `make soak` makes faults on each database, and how many runs of the model it makes.
SOAK ?= 10m
MODEL_RUNS ?= 2000
# Further arguments for the program that `make demo`, `make dev` and `make bench` run, and flags for `make test`.
ARGS ?=
TESTFLAGS ?=

TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/coatcheck-tools
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)/golangci-lint
TEMPL := $(TOOLS)/templ-$(TEMPL_VERSION)/templ
INSTALL_TOOL = GOFLAGS= CGO_ENABLED=0 GOBIN=$(@D) $(GO) install

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: toolchain ## the static binary, bin/coatcheck
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" -o bin/coatcheck ./cmd/coatcheck

.PHONY: demo
demo: build ## a broker, a sandbox provider and a page with a Connect button
	@bin/coatcheck demo $(ARGS)

.PHONY: dev
dev: toolchain $(TEMPL) ## the demo, generated, built and started again after each change
	@$(TEMPL) generate -watch -cmd "$(GO) run ./cmd/coatcheck demo $(ARGS)"

.PHONY: generate
generate: $(TEMPL) ## the Go code of the templates, and the table of providers
	$(TEMPL) generate
	$(GO) run ./cmd/providersdoc docs/providers.md

# The tool would run prettier where one is installed, and format differently there.
TEMPL_FMT = $(TEMPL) fmt -prettier-command none

.PHONY: fmt
fmt: $(GOLANGCI_LINT) $(TEMPL) ## format Go code and templates
	$(GOLANGCI_LINT) fmt
	$(TEMPL_FMT) web

.PHONY: lint
lint: toolchain $(GOLANGCI_LINT) $(TEMPL) ## golangci-lint, and the format of the templates
	$(GOLANGCI_LINT) run ./...
	$(TEMPL_FMT) -fail web

# What the APIs promise holds on either database.
APIS := $(addprefix ./web/api/,nango connections integrations popup)

.PHONY: test
test: toolchain setup ## every test, with the race detector; first installs what the tests need
	CGO_ENABLED=1 $(GO) test -race -timeout 20m $(TESTFLAGS) ./...
	COATCHECK_TEST_DATABASE=postgres CGO_ENABLED=1 $(GO) test -race -timeout 20m $(TESTFLAGS) $(APIS)

.PHONY: soak
soak: toolchain ## the fault tests and the model of renewals, for SOAK (10m) each
	$(GO) test ./cmd/coatcheck -run TestFaultsCostNoGrant -v -timeout 2h -faults.for=$(SOAK) -faults.seed=$$RANDOM
	$(GO) test ./broker -run TestModel -v -timeout 2h -model.runs=$(MODEL_RUNS)

.PHONY: fuzz
fuzz: toolchain ## each fuzz target for FUZZTIME (60s)
	build/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: toolchain ## benchmarks, then the load test (ARGS=-short for a quick one)
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(GO) run ./cmd/loadtest $(ARGS)

.PHONY: verify
verify: toolchain generate ## generated code, go.mod and the list of dependencies are as they should be
	$(GO) mod tidy
	$(GO) mod verify
	build/dependencies.sh
	git diff --exit-code -- go.mod go.sum '*_templ.go' docs/providers.md
	@new=$$(git ls-files --others --exclude-standard -- '*_templ.go'); test -z "$$new" || { echo "to be committed: $$new" >&2; exit 1; }

.PHONY: check
check: ## what CI runs: verify, lint, each fuzz target with a thousand inputs, test
	@for step in verify lint "fuzz FUZZTIME=1000x" test; do \
		start=$$SECONDS; \
		$(MAKE) --no-print-directory $$step; \
		echo "== $$step: $$((SECONDS - start)) s"; \
	done

.PHONY: toolchain
toolchain:
	@build/toolchain.sh $(GO_MINIMUM)

.PHONY: setup
setup:
	@build/setup.sh

$(GOLANGCI_LINT):
	$(INSTALL_TOOL) github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

$(TEMPL):
	$(INSTALL_TOOL) github.com/a-h/templ/cmd/templ@$(TEMPL_VERSION)
