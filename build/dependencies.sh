#!/usr/bin/env bash
# Compares the direct dependencies of go.mod with the reviewed list in docs/dependencies.md: one line each, no other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

required=$("${GO:-go}" list -m -f '{{if not (or .Main .Indirect)}}{{.Path}}{{end}}' all | sed '/^$/d' | sort)
listed=$(awk -F '`' '/^\| `/ { print $2 }' docs/dependencies.md | sort)
if ! diff <(echo "$listed") <(echo "$required"); then
	echo "docs/dependencies.md (<) and the direct dependencies of go.mod (>) differ" >&2
	exit 1
fi
