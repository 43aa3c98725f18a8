#!/usr/bin/env bash
# Compares the direct dependencies of go.mod with the reviewed list in docs/dependencies.md, and modernc.org/libc with the
# version that modernc.org/sqlite was made for: it is tested with no other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go=${GO:-go}

required=$("$go" list -m -f '{{if not (or .Main .Indirect)}}{{.Path}}{{end}}' all | sed '/^$/d' | sort)
listed=$(awk -F '`' '/^\| `/ { print $2 }' docs/dependencies.md | sort)
if ! diff <(echo "$listed") <(echo "$required"); then
	echo "docs/dependencies.md (<) and the direct dependencies of go.mod (>) differ" >&2
	exit 1
fi

sqlite=$("$go" list -m -f '{{.Path}}@{{.Version}}' modernc.org/sqlite)
libc=$("$go" list -m -f '{{.Path}}@{{.Version}}' modernc.org/libc)
if ! "$go" mod graph | grep -Fx "$sqlite $libc" >/dev/null; then
	echo "$sqlite asks for another modernc.org/libc than $libc" >&2
	exit 1
fi
