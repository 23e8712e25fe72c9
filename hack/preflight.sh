#!/usr/bin/env bash
# Says what this machine lacks before anything is built: programs, and versions that are too old. Ends with 1 if anything
# is missing. Which Rust and which Go is read from Cargo.toml and hack/tools/*/go.mod.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
problems=()

# need PROGRAM WHAT-FOR: it is there.
need() {
  command -v "$1" >/dev/null && return
  problems+=("found no $1 on PATH, needed $2")
  return 1
}

# at_least PROGRAM FOUND EXPECTED HINT: its version is not older.
at_least() {
  if [[ ! $2 =~ ^[0-9]+(\.[0-9]+)+ ]]; then
    problems+=("cannot tell the version of $1, expected $3 or newer: $4")
  elif [ "$(printf '%s\n' "$3" "${BASH_REMATCH[0]}" | sort -V | head -n 1)" != "$3" ]; then
    problems+=("found $1 $2, expected $3 or newer: $4")
  fi
}

[ "$(uname -s)" = Linux ] || problems+=("found $(uname -s), expected Linux: the servers run here as plain processes")

rust=$(awk -F'"' '/^rust-version/ {print $2}' "$root/Cargo.toml")
if need cargo "to build Assay" && need rustc "to build Assay"; then
  at_least rustc "$(cd "$root" && rustc --version 2>/dev/null | awk '{print $2}')" "$rust" \
    "update Rust, for example with \`rustup update stable\`"
fi
go=$(awk '$1 == "go" {print $2}' "$root"/hack/tools/*/go.mod | sort -V | tail -n 1)
if need go "to build the servers and clients of the tests and the demo"; then
  at_least go "$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//')" "$go" "update Go"
fi
need gcc "to link, and to build the cryptography library" || true
need make "to build" || true
need git "to name the commit that an image is built from" || true
need openssl "to make the certificates of the test servers" || true

[ ${#problems[@]} -gt 0 ] || exit 0
printf 'This machine cannot build Assay yet:\n' >&2
printf '  - %s\n' "${problems[@]}" >&2
exit 1
