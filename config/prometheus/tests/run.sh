#!/usr/bin/env bash
# Checks the alerting rules and runs their tests with promtool, on the rules as Prometheus sees them.
set -euo pipefail

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if ! command -v promtool >/dev/null; then
  echo "SKIPPED: found no promtool on PATH, so the alerting rules are not tested: install Prometheus" \
    "(on Debian: apt-get install prometheus)" >&2
  exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What stands under `spec:` of the PrometheusRule is a rules file.
awk '/^spec:$/ {inside = 1; next} /^[^ #]/ {inside = 0} inside {sub(/^  /, ""); print}' \
  "$tests/../rules.yaml" >"$scratch/rules.yaml"
cp "$tests/alerts.yaml" "$tests/days.yaml" "$scratch/"
cd "$scratch"
promtool check rules rules.yaml
promtool test rules alerts.yaml days.yaml
