#!/usr/bin/env bash
# Usage: build/fuzz.sh TIME
# Finds every fuzz target of the tree and tries each for TIME (60s, or 1000x for a number of inputs). An input that
# fails is kept by go test under testdata/fuzz, to be committed with the fix.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

targets=$(grep -rE --include='*_test.go' --exclude-dir=node_modules '^func Fuzz[A-Za-z0-9_]+\(' . |
	sed -E 's|^(.*)/[^/]+:func (Fuzz[A-Za-z0-9_]+)\(.*|\1 \2|' | sort)
failed=
while read -r package target; do
	echo "-- $package $target"
	"${GO:-go}" test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "$package" || failed+=" $package:$target"
done <<<"$targets"
if [ -n "$failed" ]; then
	echo "failed:$failed" >&2
	exit 1
fi
