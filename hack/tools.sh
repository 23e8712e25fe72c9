#!/usr/bin/env bash
# Builds the servers and clients that tests and the demo need, from the Go modules pinned in hack/tools.
#
#   hack/tools.sh build [NAME…]   build what is missing, of all or of the binaries named; progress on stderr, the folder
#                                 as the last line of stdout
#   hack/tools.sh dir             print the folder, build nothing
#
# A folder of hack/tools with one `tool` line in its go.mod gives a binary of the folder's name, one with several
# gives a binary for each package, one with a main.go is itself the program. An optional build.env adds flags.
# Binaries live in ${ASSAY_TOOLS_CACHE:-~/.cache/assay/tools}: store/<binary>-<hash of its folder>, linked into
# one folder per set of pins. Each appears there as soon as it is built, so a cluster can start before the rest.
set -euo pipefail

pins=$(cd "$(dirname "${BASH_SOURCE[0]}")/tools" && pwd)
cache=${ASSAY_TOOLS_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set: set it, or ASSAY_TOOLS_CACHE}/.cache}/assay/tools}
[[ $cache == /* ]] || cache=$PWD/$cache
common_flags=(-trimpath -mod=readonly -buildvcs=false)
common_ldflags="-s -w"
# What a cluster needs comes first; a tool not named here comes last.
order=(etcd kube-apiserver kubectl referrers-registry crane cosign3 distribution kube-controller-manager cosign2)
export CGO_ENABLED=0 GOWORK=off GOFLAGS=

say() { printf '%s\n' "$*" >&2; }
fail() { say "hack/tools.sh: $*"; exit 1; }
short_hash() { sha256sum | cut -c1-16; }

platform() {
  command -v go >/dev/null || fail "found no Go toolchain on PATH, needed to build the tools: install Go (hack/tools/*/go.mod says which)"
  go env GOVERSION GOOS GOARCH GOAMD64 GOARM64 GOEXPERIMENT
}

# One line per binary: name, folder, package.
list_binaries() {
  local folder packages
  for folder in "$pins"/*/; do
    folder=$(basename "$folder")
    mapfile -t packages < <(awk '$1 == "tool" && $2 != "(" {print $2} $1 == "tool" && $2 == "(" {in_tools = 1; next}
      in_tools && $1 == ")" {in_tools = 0} in_tools {print $1}' "$pins/$folder/go.mod")
    case ${#packages[@]} in
      0) echo "$folder $folder ." ;;
      1) echo "$folder $folder ${packages[0]}" ;;
      *) printf '%s\n' "${packages[@]}" | awk -v folder="$folder" -F/ '{print $NF, folder, $0}' ;;
    esac
  done
}

in_build_order() {
  awk -v order="${order[*]}" 'BEGIN {n = split(order, names, " "); for (i = 1; i <= n; i++) rank[names[i]] = i}
    {print ($1 in rank ? rank[$1] : n + 1), $0}' | sort -k1,1n -k2,2 | cut -d' ' -f2-
}

folder_key() {
  { printf '%s\n' "$platform" "${common_flags[*]} $common_ldflags"
    (cd "$pins/$1" && find . -type f | LC_ALL=C sort | xargs sha256sum); } | short_hash
}

# The pinned version of the module that holds a package.
pinned_version() {
  [ "$2" != . ] || return 0
  awk -v package="$2/" '$1 == "require" {sub(/require/, "")}
    $2 ~ /^v[0-9]/ && index(package, $1 "/") == 1 && length($1) > length(best) {best = $1; version = $2}
    END {print version}' "$pins/$1/go.mod"
}

# Succeeds if $KUBEBUILDER_ASSETS holds the binary in exactly the pinned version.
assets_hold() {
  local name=$1 version=$2 binary=${KUBEBUILDER_ASSETS:-}/$1 found
  [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$binary" ] || return 1
  case $name in
    kube-apiserver) found=$("$binary" --version 2>/dev/null | awk '/^Kubernetes / {print $2}') ;;
    kubectl) found=$("$binary" version --client 2>/dev/null | awk '/^Client Version: / {print $3}') ;;
    etcd) found=v$("$binary" --version 2>/dev/null | awk '/^etcd Version: / {print $3}') ;;
    *) return 1 ;;
  esac
  [ "$found" = "$version" ]
}

# A build.env sees the pinned $version and sets build_flags and ldflags. The lock goes on to the compiler: should this
# script be killed, the next run waits for it rather than write the same file.
go_build() (
  folder=$1 package=$2 version=$3 output=$4
  cd "$pins/$folder"
  build_flags=() ldflags=$common_ldflags
  if [ -f build.env ]; then
    # shellcheck source=/dev/null
    . ./build.env || exit
  fi
  go build "${common_flags[@]}" ${build_flags[@]+"${build_flags[@]}"} -ldflags "$ldflags" -o "$output" "$package" &&
    go version -m "$output" >/dev/null # refuses what is not a program
)

# On a terminal, counts the seconds behind the progress line until the build has ended.
show_seconds() {
  while sleep 1 && kill -0 $$ 2>/dev/null; do printf '\r%s %s s ' "$1" $((SECONDS - $2)) >&2; done 9>&-
}

make_binary() {
  local name=$1 folder=$2 package=$3 stored=$4 progress=$5
  local version partial log ticker='' started=$SECONDS
  version=$(pinned_version "$folder" "$package")
  partial=$cache/store/.$name.partial log=$cache/store/.$name.log
  if assets_hold "$name" "$version"; then
    say "$progress $name $version from \$KUBEBUILDER_ASSETS"
    cp "$KUBEBUILDER_ASSETS/$name" "$partial"
  else
    progress="$progress building $name${version:+ $version} …"
    printf '%s ' "$progress" >&2
    if [ -t 2 ]; then show_seconds "$progress" "$started" & ticker=$!; fi
    if ! go_build "$folder" "$package" "$version" "$partial" >"$log" 2>&1; then
      [ -z "$ticker" ] || kill "$ticker" 2>/dev/null || true
      say "failed after $((SECONDS - started)) s:"
      tail -n 30 "$log" >&2
      fail "cannot build $name ($package) in hack/tools/$folder; the whole output is in $log; run it again to resume"
    fi
    [ -z "$ticker" ] || { kill "$ticker" 2>/dev/null && wait "$ticker" 2>/dev/null; } || true
    [ -z "$ticker" ] || printf '\r%s ' "$progress" >&2
    say "(done in $((SECONDS - started)) s)"
  fi
  chmod 755 "$partial"
  mv -f "$partial" "$stored"
}

take_lock() {
  exec 9>"$cache/.lock"
  flock -n 9 || { say "another build of the tools is under way: waiting for it …"; flock 9; }
}

link() {
  ln -f "$1" "$2.linking" 2>/dev/null || ln -sf "$1" "$2.linking"
  mv -f "$2.linking" "$2"
}

# Keeps of the binaries those that are named, all where none is.
select_named() {
  local name
  selected=$binaries
  [ $# -gt 0 ] || return 0
  for name in "$@"; do
    grep -q "^$name " <<<"$binaries" ||
      fail "found no tool '$name', expected one of: $(cut -d' ' -f1 <<<"$binaries" | paste -sd' ')"
  done
  selected=$(awk -v names="$*" 'BEGIN {n = split(names, list, " "); for (i = 1; i <= n; i++) named[list[i]] = 1}
    $1 in named' <<<"$binaries")
}

all_linked() {
  local name rest
  while read -r name rest; do [ -x "$dir/$name" ] || return 1; done <<<"$selected"
}

# The names of what the store lacks, one a line.
missing() {
  local name folder package key
  while read -r name folder package key; do [ -x "$cache/store/$name-$key" ] || echo "$name"; done <<<"$selected"
}

build_missing() {
  local name folder package key stored number=0 total
  total=$(wc -l <<<"$selected")
  say "$(missing | wc -l) of $total tools are to be built (all there are: about half an hour on two cores, once)"
  while read -r name folder package key; do
    number=$((number + 1)) stored=$cache/store/$name-$key
    [ -x "$stored" ] || make_binary "$name" "$folder" "$package" "$stored" "[$number/$total]" </dev/null
    [ -x "$dir/$name" ] || link "$stored" "$dir/$name"
  done <<<"$selected"
}

platform=$(platform)
binaries=$(list_binaries | in_build_order | while read -r name folder package; do
  echo "$name $folder $package $(folder_key "$folder")"
done)
dir=$cache/$(short_hash <<<"$binaries")

case ${1:-} in
  build)
    select_named "${@:2}"
    if ! all_linked; then
      mkdir -p "$cache/store" "$dir"
      take_lock
      build_missing
    fi
    echo "$dir"
    ;;
  dir) echo "$dir" ;;
  *) fail "found '${1:-}', expected 'build' or 'dir'" ;;
esac
