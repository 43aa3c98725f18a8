#!/usr/bin/env bash
# Usage: build/fuzz.sh TIME
# Finds every fuzz target of the tree and tries each for TIME (60s, or 1000x for a number of inputs). An input that
# fails is kept under the package's testdata/fuzz, to be committed with the fix. A package is built once for all of its
# targets: "go test -fuzz" would link it for each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

go=${GO:-go}
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT

# targets prints a package's directory and a target on each line.
targets() {
	grep -rE --include='*_test.go' --exclude-dir=node_modules '^func Fuzz[A-Za-z0-9_]+\(' . |
		sed -E 's|^(.*)/[^/]+:func (Fuzz[A-Za-z0-9_]+)\(.*|\1 \2|' | sort
}

failed=
built=
while read -r package target; do
	if [ "$package" != "$built" ]; then
		"$go" test -c -fuzz=. -o "$bin/fuzz" "$package"
		corpus=$("$go" env GOCACHE)/fuzz/$("$go" list "$package") # where go test keeps what it found, too
		built=$package
	fi
	echo "-- $package $target"
	(cd "$package" && "$bin/fuzz" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$1" -test.fuzzcachedir "$corpus") ||
		failed+=" $package:$target"
done < <(targets)
if [ -n "$failed" ]; then
	echo "failed:$failed" >&2
	exit 1
fi
