#!/usr/bin/env bash
# Builds the operator's image without a container engine, and pushes it with crane.
#
#   hack/image.sh build            build the static release binary; its path is the last line
#   hack/image.sh push REF         build, make an image of one layer, push it to registry/repository:tag;
#                                  its digest is the last line. INSECURE=1 for a registry on plain http
#   hack/image.sh manifests [REF]  print config/default with the image REF, registry/repository@sha256:…;
#                                  without REF, the one that was pushed last. Pods are scheduled on nodes of the
#                                  architecture that was pushed; for a REF from elsewhere, name it in ARCH
#
# crane and kubectl are those on PATH; where there are none, they are built (hack/tools.sh). crane reads the credentials
# that `docker login`, `podman login` or `crane auth login` wrote.
#
# The layer holds /assay and the CA certificates; no shell, no library, nothing writable. The same sources, compiler
# and CA certificates give the same digest: files are owned by root and dated 1970, blobs are compressed without a name.
#
# The binary is linked statically with the C library of this machine's own target, so no other target and no other C
# compiler are needed. glibc resolves names without its shared libraries since 2.34 (older ones are refused), by the
# /etc/resolv.conf and /etc/hosts that container runtimes mount.
# A binary built before can be given by ASSAY_BINARY, the certificates by ASSAY_CA_CERTIFICATES.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$root/target}
work=$target_dir/image
pushed=$work/pushed
user=65532

say() { printf '%s\n' "$*" >&2; }
fail() { say "hack/image.sh: $*"; exit 1; }

require_static_resolver() {
  local version
  version=$(getconf GNU_LIBC_VERSION 2>/dev/null) || return 0
  [ "$(printf '%s\n' "glibc 2.34" "$version" | sort -V | head -n 1)" = "glibc 2.34" ] ||
    fail "found $version, expected glibc 2.34 or newer: an older one cannot resolve names in a static binary"
}

# With --target, the flags reach the binary but neither build scripts nor procedural macros.
build() {
  local triple flags
  [ "$(uname -s)" = Linux ] || fail "the image is built on Linux, found $(uname -s)"
  require_static_resolver
  triple=$(rustc -vV | awk '/^host: / {print $2}')
  say "building the release binary for $triple, linked statically …"
  # The separator lets paths hold spaces; no path of this machine stays in the binary.
  flags=(-Ctarget-feature=+crt-static "--remap-path-prefix=$root=assay"
    "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo")
  (cd "$root" && CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${flags[*]}") \
    cargo build --release --locked --target "$triple" --target-dir "$target_dir/static" -p assay-cli --bin assay >&2)
  binary=$target_dir/static/$triple/release/assay
}

require_static() {
  # A dynamically linked one names its interpreter in a program header; it could not start in an empty image.
  if LC_ALL=C readelf --program-headers --wide "$1" | grep -q INTERP; then
    fail "$1 is linked dynamically, so it cannot run in an image without libraries"
  fi
}

ca_certificates() {
  local candidate
  for candidate in ${ASSAY_CA_CERTIFICATES:+"$ASSAY_CA_CERTIFICATES"} \
    /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
    if [ -s "$candidate" ]; then
      echo "$candidate"
      return
    fi
  done
  fail "found no CA certificates, needed to trust registries: install ca-certificates, or name a PEM file in ASSAY_CA_CERTIFICATES"
}

sha256() { sha256sum "$1" | cut -d' ' -f1; }

# Moves a file into the layout under its digest; prints a descriptor.
add_blob() {
  local file=$1 media_type=$2 digest size
  digest=$(sha256 "$file") size=$(stat -c %s "$file")
  mv "$file" "$layout/blobs/sha256/$digest"
  printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$media_type" "$digest" "$size"
}

make_layer() {
  local files=$work/files certificates
  certificates=$(ca_certificates)
  mkdir -p "$files/etc/ssl/certs"
  install -m 0755 "$1" "$files/assay"
  install -m 0644 "$certificates" "$files/etc/ssl/certs/ca-certificates.crt"
  chmod 0755 "$files" "$files/etc" "$files/etc/ssl" "$files/etc/ssl/certs"
  (cd "$files" && tar --create --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner assay etc)
}

architecture() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) fail "found the machine type $(uname -m), expected x86_64 or aarch64" ;;
  esac
}

# A client on PATH, else the pinned one, built where it is missing.
client() {
  command -v "$1" && return
  "$root/hack/tools.sh" build "$1" | sed "s|\$|/$1|"
}

# The commit, marked where the files are not those of the commit.
revision() {
  local commit
  commit=$(git -C "$root" rev-parse HEAD 2>/dev/null) || { echo unknown && return; }
  [ -z "$(git -C "$root" status --porcelain 2>/dev/null)" ] || commit+=-modified
  echo "$commit"
}

# An OCI image layout in $layout: one layer, one configuration, one manifest.
make_layout() {
  local diff_id layer config manifest version revision architecture
  architecture=$(architecture)
  version=$(cargo metadata --format-version 1 --no-deps --locked --manifest-path "$root/Cargo.toml" |
    grep -o '"name":"assay-cli","version":"[^"]*"' | cut -d'"' -f8)
  [ -n "$version" ] || fail "cargo metadata tells no version of assay-cli"
  revision=$(revision)
  rm -rf "$work/files" "$layout"
  mkdir -p "$layout/blobs/sha256"
  make_layer "$1" >"$work/layer.tar"
  diff_id=$(sha256 "$work/layer.tar")
  gzip --no-name --best --force "$work/layer.tar"
  layer=$(add_blob "$work/layer.tar.gz" application/vnd.oci.image.layer.v1.tar+gzip)
  cat >"$work/config.json" <<CONFIG
{"created":"1970-01-01T00:00:00Z","architecture":"$architecture","os":"linux",
"config":{"User":"$user:$user","Entrypoint":["/assay"],"WorkingDir":"/","Labels":{
"org.opencontainers.image.title":"assay",
"org.opencontainers.image.description":"Continuously re-checks the signatures of every running image",
"org.opencontainers.image.licenses":"Apache-2.0",
"org.opencontainers.image.version":"$version",
"org.opencontainers.image.revision":"$revision"}},
"rootfs":{"type":"layers","diff_ids":["sha256:$diff_id"]},
"history":[{"created":"1970-01-01T00:00:00Z","created_by":"hack/image.sh"}]}
CONFIG
  config=$(add_blob "$work/config.json" application/vnd.oci.image.config.v1+json)
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
    "$config" "$layer" >"$work/manifest.json"
  digest=sha256:$(sha256 "$work/manifest.json")
  manifest=$(add_blob "$work/manifest.json" application/vnd.oci.image.manifest.v1+json)
  printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
  printf '{"schemaVersion":2,"manifests":[%s]}' "$manifest" >"$layout/index.json"
}

push() {
  local reference=$1 crane repository insecure=() binary digest layout=$work/layout
  case $reference in
    '') fail "name where to push: make image REF=registry/repository:tag" ;;
    *@*) fail "found a digest in '$reference', expected registry/repository:tag: the digest is what this computes" ;;
  esac
  [ -z "${INSECURE:-}" ] || insecure=(--insecure)
  crane=$(client crane)
  mkdir -p "$work"
  if [ -n "${ASSAY_BINARY:-}" ]; then binary=$ASSAY_BINARY; else build; fi
  require_static "$binary"
  make_layout "$binary"
  "$crane" push ${insecure[@]+"${insecure[@]}"} "$layout" "$reference" >&2 ||
    fail "$reference was not pushed; if the registry refused access, log in first: docs/operations.md#a-private-registry"
  [ "$("$crane" digest ${insecure[@]+"${insecure[@]}"} "$reference")" = "$digest" ] ||
    fail "the registry serves another digest than the one pushed to $reference, $digest"
  repository=$reference
  [[ ${reference##*/} != *:* ]] || repository=${reference%:*}
  printf '%s@%s %s\n' "$repository" "$digest" "$(architecture)" >"$pushed"
  say "pushed $repository@$digest; install it with: make -s deploy-manifests | kubectl apply -f -"
  echo "$digest"
}

manifests() {
  local reference=$1 arch=${ARCH:-} kubectl
  if [ -z "$reference" ]; then
    [ -s "$pushed" ] || fail "no image was pushed from here yet: name one, REF=registry/repository@sha256:…, or run make image"
    read -r reference arch <"$pushed"
  fi
  [[ $reference =~ ^[^@[:space:]\"]+@sha256:[0-9a-f]{64}$ ]] ||
    fail "found '$reference', expected registry/repository@sha256:<64 hex digits>: the operator is installed by digest only"
  [[ $arch =~ ^[a-z0-9]*$ ]] || fail "found the architecture '$arch', expected one such as amd64 or arm64"
  kubectl=$(client kubectl)
  # kustomize takes bases by relative path only, so the overlay lies in the clone.
  mkdir -p "$root/target"
  overlay=$(mktemp -d "$root/target/deploy.XXXXXX")
  trap 'rm -rf "$overlay"' EXIT
  cat >"$overlay/kustomization.yaml" <<OVERLAY
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../../config/default]
images:
  - name: assay
    newName: "${reference%@*}"
    digest: "${reference#*@}"
OVERLAY
  [ -z "$arch" ] || cat >>"$overlay/kustomization.yaml" <<OVERLAY
patches:
  - target: {kind: Deployment, name: assay}
    patch: |
      - op: add
        path: /spec/template/spec/nodeSelector/kubernetes.io~1arch
        value: $arch
OVERLAY
  "$kubectl" kustomize "$overlay"
}

case ${1:-} in
  build)
    build
    require_static "$binary"
    echo "$binary"
    ;;
  push) push "${2:-}" ;;
  manifests) manifests "${2:-}" ;;
  *) fail "found '${1:-}', expected 'build', 'push' or 'manifests'" ;;
esac
