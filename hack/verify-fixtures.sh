#!/usr/bin/env bash
# Makes crates/verify/tests/fixtures anew: one image signed by real cosign 2 and 3 under each supported key type, and
# what only looks like a signature; and in keyless/ what is signed and attested with private Sigstores.
# Needs `make tools` and openssl. The keys are thrown away afterwards.
#
#   hack/verify-fixtures.sh            both
#   hack/verify-fixtures.sh keyless    only keyless/, which is made by an example of the test kit
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fixtures=$root/crates/verify/tests/fixtures
tools=$(make -s -C "$root" tools-dir)
scratch=$(mktemp -d)
registry_pid=
stop() {
  [ -z "$registry_pid" ] || kill "$registry_pid" 2>/dev/null || true
  rm -rf "$scratch"
}
trap stop EXIT
fail() { printf 'hack/verify-fixtures.sh: %s\n' "$*" >&2; exit 1; }
for tool in cosign2 cosign3 crane referrers-registry distribution fulcio timestamp-server rekor-tiles; do
  [ -x "$tools/$tool" ] || fail "found no $tool in $tools: run make tools"
done

reference=registry.example.com/shop/web
key_types=(p256 p384 ed25519 rsa2048)

make_keyless() {
  ASSAY_TOOLS_DIR=$tools cargo run --quiet --manifest-path "$root/Cargo.toml" -p assay-testkit \
    --example keyless_fixtures -- "$fixtures/keyless"
}

case ${1:-all} in
  all) make_keyless ;;
  keyless) make_keyless; exit ;;
  *) fail "found '$1', expected nothing or 'keyless'" ;;
esac

# cosign keeps a cache in HOME; none of these commands may find, or leave, anything there.
export HOME=$scratch COSIGN_PASSWORD='' COSIGN_YES=true

start_registry() {
  : >"$scratch/registry.log"
  "$tools/referrers-registry" 2>"$scratch/registry.log" &
  registry_pid=$!
  for _ in $(seq 100); do
    address=$(sed -n 's/^listening on //p' "$scratch/registry.log")
    [ -z "$address" ] || return 0
    sleep 0.1
  done
  fail "the registry did not start: $(cat "$scratch/registry.log")"
}

push_image() {
  printf 'hello\n' >"$scratch/hello.txt"
  tar -C "$scratch" --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$scratch/layer.tar" hello.txt
  "$tools/crane" append --insecure -f "$scratch/layer.tar" -t "$address/shop/web:1" >/dev/null 2>&1
  digest=$("$tools/crane" digest --insecure "$address/shop/web:1")
  "$tools/crane" manifest --insecure "$address/shop/web:1" >"$scratch/manifest.json"
  image=$address/shop/web@$digest
  printf '%s\n' "$digest" >"$fixtures/digest"
}

private_key() {
  case $1 in
    p256) openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt ;;
    p384) openssl ecparam -name secp384r1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt ;;
    ed25519) openssl genpkey -algorithm ed25519 ;;
    rsa2048) openssl genrsa 2048 2>/dev/null | openssl pkcs8 -topk8 -nocrypt ;;
  esac
}

make_key() {
  private_key "$1" >"$scratch/$1.pem"
  "$tools/cosign3" import-key-pair --key "$scratch/$1.pem" --output-key-prefix "$scratch/$1" >/dev/null 2>&1
  cp "$scratch/$1.pub" "$fixtures/$1.pub"
}

quietly() {
  "$@" >"$scratch/output" 2>&1 || fail "$* failed: $(cat "$scratch/output")"
}

# sign_tag_format VERSION KEY NAME [flags]
sign_tag_format() {
  local version=$1 key=$2 name=$3 flags=()
  [ "$version" != 3 ] || flags=(--use-signing-config=false --new-bundle-format=false)
  quietly "$tools/cosign$version" sign --key "$scratch/$key.key" --tlog-upload=false --upload=false "${flags[@]}" \
    --output-payload "$fixtures/$name.payload" --output-signature "$fixtures/$name.sig" "${@:4}" "$image"
}

# sign_bundle VERSION KEY NAME
sign_bundle() {
  local flags=(--key "$scratch/$2.key" --new-bundle-format=true --use-signing-config=false --tlog-upload=false)
  if [ "$1" = 3 ]; then
    quietly "$tools/cosign3" sign "${flags[@]}" --upload=false --bundle "$fixtures/$3.bundle.json" "$image"
  else
    quietly "$tools/cosign2" sign "${flags[@]}" "$image"
    fetch_pushed_bundle >"$fixtures/$3.bundle.json"
  fi
}

# cosign 2 writes a signature's bundle nowhere but into the registry, whose log tells the manifest it came with.
fetch_pushed_bundle() {
  local manifest layer
  manifest=$(sed -n 's|.*"PUT /v2/shop/web/manifests/\(sha256:[0-9a-f]*\) .*|\1|p' "$scratch/registry.log" | tail -n 1)
  layer=$("$tools/crane" manifest --insecure "$address/shop/web@$manifest" |
    sed -n 's/.*"layers":\[{[^]]*"digest":"\(sha256:[0-9a-f]*\)".*/\1/p')
  [ -n "$layer" ] || fail "found no layer in what cosign 2 pushed as $manifest"
  "$tools/crane" blob --insecure "$address/shop/web@$layer"
}

make_look_alikes() {
  printf '{"scanner": {"uri": "example"}}' >"$scratch/predicate.json"
  quietly "$tools/cosign3" attest --key "$scratch/p256.key" --use-signing-config=false --tlog-upload=false \
    --no-upload --type vuln --predicate "$scratch/predicate.json" --bundle "$fixtures/attestation.bundle.json" "$image"
  quietly "$tools/cosign3" sign-blob --key "$scratch/p256.key" --use-signing-config=false --tlog-upload=false \
    --bundle "$fixtures/blob.bundle.json" "$scratch/manifest.json"
  printf 'signed garbage' >"$scratch/garbage"
  sign_tag_format 2 p256 garbage --payload "$scratch/garbage"
}

mkdir -p "$fixtures"
start_registry
push_image
for key in "${key_types[@]}"; do
  make_key "$key"
  for version in 2 3; do
    sign_tag_format "$version" "$key" "cosign$version-$key" --sign-container-identity "$reference" -a "team=shop"
    sign_bundle "$version" "$key" "cosign$version-$key"
  done
done
make_look_alikes
chmod 644 "$fixtures"/*.* "$fixtures/digest"
