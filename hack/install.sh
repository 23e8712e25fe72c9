#!/usr/bin/env bash
# Puts the commands into a folder: assay, and under the names by which kubectl finds plugins and their completion.
#
#   hack/install.sh PREFIX    PREFIX/bin/assay, kubectl-assay and kubectl_complete-assay
#
# A binary built before can be given by ASSAY_BINARY.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fail() { printf 'hack/install.sh: %s\n' "$*" >&2; exit 1; }

[ "$#" = 1 ] && [ -n "$1" ] || fail "found $# arguments, expected the folder, such as /usr/local"
bin=$1/bin
binary=${ASSAY_BINARY:-}
if [ -z "$binary" ]; then
  printf 'building the release binary …\n' >&2
  (cd "$root" && cargo build --release --locked -p assay-cli --bin assay >&2)
  binary=${CARGO_TARGET_DIR:-$root/target}/release/assay
fi
[ -x "$binary" ] || fail "found no program $binary; name one in ASSAY_BINARY, or leave it out"
install -d "$bin"
install -m 0755 "$binary" "$bin/assay"
# The name that it is called by decides which command line it has; links stay within the folder.
ln -sf assay "$bin/kubectl-assay"
ln -sf assay "$bin/kubectl_complete-assay"
printf '%s\n' "$bin/assay" "$bin/kubectl-assay"
