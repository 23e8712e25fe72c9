#!/usr/bin/env bash
# Runs the pinned cargo-deny with the arguments given, after installing it into a cache outside the clone where it is
# missing (some minutes, once). `hack/cargo-deny.sh install` only installs.
set -euo pipefail

version=0.20.2
root=${ASSAY_CARGO_TOOLS_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set: set it, or ASSAY_CARGO_TOOLS_CACHE}/.cache}/assay/cargo-tools}
binary=$root/cargo-deny-$version/bin/cargo-deny

install() {
  mkdir -p "$root"
  exec 9>"$root/.lock"
  flock 9 # another install may be under way
  [ ! -x "$binary" ] || return 0
  echo "installing cargo-deny $version …" >&2
  cargo install cargo-deny --version "=$version" --locked --quiet --target-dir "$root/.target" \
    --root "$root/cargo-deny-$version" 9>&- >&2
  rm -rf "$root/.target"
}

[ -x "$binary" ] || install
[ "${1:-}" = install ] || exec "$binary" --workspace --locked "$@"
