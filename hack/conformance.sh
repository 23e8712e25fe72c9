#!/usr/bin/env bash
# usage: hack/conformance.sh ASSAY FOLDER
# Has `assay verify-bundle` judge every case of a folder in the layout of sigstore-conformance's test/assets/bundle-verify
# (see its README there) and compares: a case whose name ends in _fail must be refused (exit code 1, or 2 where the key
# or the trust root that it gives is no such thing), every other one verified (exit code 0). Each case is asked twice,
# for the file and for its digest. Prints wrong answers and counts; VERBOSE=1 prints every answer.
set -euo pipefail
assay=$1 folder=${2%/}
[ -d "$folder" ] || {
  echo "no folder ${folder:-is named}: give ASSETS=…/sigstore-conformance/test/assets/bundle-verify" >&2
  exit 2
}

default_identity=https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main
default_issuer=https://token.actions.githubusercontent.com

content_or() { if [ -f "$1" ]; then tr -d '\r\n' <"$1"; else printf %s "$2"; fi; }

good=0 bad=0 wrong=0
for case in "$folder"/*/; do
  case=${case%/}
  [ -f "$case/bundle.sigstore.json" ] || continue
  artifact=$case/artifact
  [ -f "$artifact" ] || artifact=$folder/../a.txt
  arguments=(--bundle "$case/bundle.sigstore.json")
  if [ -f "$case/key.pub" ]; then
    arguments+=(--key "$case/key.pub")
  else
    arguments+=(--certificate-identity "$(content_or "$case/identity" "$default_identity")")
    arguments+=(--certificate-oidc-issuer "$(content_or "$case/issuer" "$default_issuer")")
  fi
  if [ -f "$case/trusted_root.json" ]; then arguments+=(--trusted-root "$case/trusted_root.json"); fi
  expected=0
  case $case in *_fail) expected='1 or 2' ;; esac
  for subject in "$artifact" "sha256:$(sha256sum "$artifact" | cut -d' ' -f1)"; do
    code=0
    said=$("$assay" verify-bundle "${arguments[@]}" "$subject" 2>&1) || code=$?
    if [[ " $expected " != *" $code "* ]]; then
      wrong=$((wrong + 1))
      printf 'WRONG: %s for %s: exit code %s, expected %s: %s\n' "$(basename "$case")" "$subject" "$code" "$expected" "$said"
    elif [ "$code" = 0 ]; then
      good=$((good + 1))
    else
      bad=$((bad + 1))
    fi
    [ -z "${VERBOSE:-}" ] || printf '%s: %s\n' "$(basename "$case")" "$said"
  done
done
printf '%s answers: %s verified and %s refused as expected, %s wrong\n' $((good + bad + wrong)) "$good" "$bad" "$wrong"
[ "$wrong" = 0 ] && [ "$good" != 0 ] && [ "$bad" != 0 ]
