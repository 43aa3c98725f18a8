#!/usr/bin/env bash
# Installs what the tests need beyond Go, where it is missing: a C compiler (the race detector is linked with it),
# Chromium (the pages are tested in a browser), Node.js with npm (what applications run against us is tested unmodified;
# the tests install their npm packages themselves), and PostgreSQL with PgBouncer (tests start servers of their own).
# On Debian and Ubuntu through apt-get, as root or with sudo; elsewhere it says what to install.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }

has_compiler() { echo '#include <stdlib.h>' | "${CC:-$("${GO:-go}" env CC)}" -E -o /dev/null - 2>/dev/null; }

has_browser() {
	has chromium || has chromium-browser || has google-chrome ||
		[ -x '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome' ]
}

# browser_package prints the name of Chromium's package: Ubuntu has the snap, under the older name.
browser_package() {
	if grep -qs '^ID=ubuntu' /etc/os-release; then
		echo chromium-browser
	else
		echo chromium
	fi
}

# has_postgres looks where Debian puts the programs, too: it leaves them off the path.
has_postgres() {
	{ has initdb && has postgres; } || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

has_pgbouncer() { has pgbouncer || [ -x /usr/sbin/pgbouncer ]; }

# missing sets the packages that are to be installed, by their Debian names.
missing() {
	packages=()
	has_compiler || packages+=(gcc libc6-dev)
	has_browser || packages+=("$(browser_package)" fonts-liberation)
	has node || packages+=(nodejs)
	has npm || packages+=(npm)
	has_postgres || packages+=(postgresql)
	has_pgbouncer || packages+=(pgbouncer)
}

install_packages() {
	local root=()
	if ! has apt-get; then
		echo "Please install a C compiler, Chromium, Node.js, npm, PostgreSQL and PgBouncer (Debian's names of what is missing: ${packages[*]})" >&2
		exit 1
	fi
	if [ "$(id -u)" -ne 0 ]; then
		has sudo || { echo "Please install as root: apt-get install ${packages[*]}" >&2; exit 1; }
		root=(sudo)
	fi
	echo "Installing what the tests need: ${packages[*]}"
	"${root[@]}" apt-get update -qq
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
}

missing
if [ ${#packages[@]} -gt 0 ]; then
	install_packages
	missing
	[ ${#packages[@]} -eq 0 ] || { echo "Still missing: ${packages[*]}" >&2; exit 1; }
fi
