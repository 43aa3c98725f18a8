#!/usr/bin/env bash
# Usage: build/toolchain.sh MINIMUM
# Fails where the Go that would build here is missing or older: patch releases close holes in the standard library that
# a keeper of tokens stands on (crypto/tls, net/http, database/sql).
set -euo pipefail

minimum=$1
pattern='([0-9]+)\.([0-9]+)(\.([0-9]+))?'

# number prints a version as one number, to compare.
number() {
	[[ $1 =~ $pattern ]] || return 1
	echo $((BASH_REMATCH[1] * 1000000 + BASH_REMATCH[2] * 1000 + ${BASH_REMATCH[4]:-0}))
}

if ! have=$("${GO:-go}" version 2>/dev/null) || [[ ! $have =~ go$pattern ]]; then
	echo "Go $minimum or newer is needed: see https://go.dev/doc/install" >&2
	exit 1
fi
have=${BASH_REMATCH[0]#go}
if (($(number "$have") < $(number "$minimum"))); then
	echo "Go $minimum or newer is needed, this is Go $have: see https://go.dev/doc/install" >&2
	exit 1
fi
