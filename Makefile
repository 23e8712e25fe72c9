.DEFAULT_GOAL := help

.PHONY: help
help: ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: preflight
preflight: ## say what this machine lacks: programs, and versions that are too old
	@hack/preflight.sh

.PHONY: tools
tools: ## build the pinned servers and clients that tests and the demo need (TOOLS="crane kubectl" for some); prints their folder last
	@hack/tools.sh build $(TOOLS)

.PHONY: tools-dir
tools-dir: ## print the folder of the tools without building them
	@hack/tools.sh dir

.PHONY: build
build: ## build the static release binary; prints its path last
	@hack/image.sh build

# Where make install puts the commands.
PREFIX ?= /usr/local

.PHONY: install
install: ## put assay and kubectl assay into $(DESTDIR)$(PREFIX)/bin (ASSAY_BINARY=… for one that is built already)
	@hack/install.sh "$(DESTDIR)$(PREFIX)"

.PHONY: image
image: ## build the image and push it to REF=registry/repository:tag (INSECURE=1 for plain http); prints its digest last
	@hack/image.sh push "$(REF)"

.PHONY: deploy-manifests
deploy-manifests: ## print all manifests with the image REF=registry/repository@sha256:… (or the one pushed last), ARCH=… for its nodes
	@hack/image.sh manifests "$(REF)"

.PHONY: crds
crds: ## write the CustomResourceDefinitions anew from the types
	@cargo run -q -p assay-api --example write_crds -- crds

.PHONY: check
check: check-format check-lints check-deny check-crds rules ## what CI checks besides the tests

.PHONY: check-format
check-format:
	@cargo fmt --all --check

.PHONY: check-lints
check-lints:
	@cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: check-deny
check-deny:
	@hack/cargo-deny.sh check --hide-inclusion-graph bans licenses sources

.PHONY: check-crds
check-crds:
	@cargo test -q --locked -p assay-api --test crds_are_committed

.PHONY: rules
rules: ## test the alerting rules with promtool, where there is one
	@config/prometheus/tests/run.sh

.PHONY: advisories
advisories: ## look for known vulnerabilities of dependencies; needs the network
	@hack/cargo-deny.sh check advisories

.PHONY: test
test: preflight tools ## run all tests on real servers; all of them, also where one fails
	@cargo build --locked --workspace --bins
	@ASSAY_TESTKIT_PREBUILT=1 cargo test --locked --workspace --no-fail-fast

.PHONY: property
property: ## compare what is predicted with what happens over CASES=10000 random fleets, keys and policies; some minutes
	@PROPTEST_CASES=$(or $(CASES),10000) cargo test --locked -p assay-engine --lib -- --nocapture impact

.PHONY: kills
kills: preflight tools ## kill the operator KILLS=1000 times in the middle of a write; a quarter of an hour
	@cargo build --locked --workspace --bins
	@ASSAY_TESTKIT_PREBUILT=1 ASSAY_KILLS=$(or $(KILLS),1000) cargo test --locked -p assay-tests --test all -- --nocapture f12_

.PHONY: fuzz
fuzz: ## fuzz every parser of remote bytes for a short time (SECONDS=5 each, TARGETS="dsse key")
	@cargo build -q --locked --workspace --bin assay-fuzz
	@$(or $(CARGO_TARGET_DIR),target)/debug/assay-fuzz --seconds $(or $(SECONDS),5) $(TARGETS)

.PHONY: conformance
conformance: ## ask assay verify-bundle about ASSETS=folder of sigstore-conformance (see docs/verify-bundle.md)
	@cargo build --locked --bin assay
	@hack/conformance.sh $(or $(CARGO_TARGET_DIR),target)/debug/assay "$(ASSETS)"

.PHONY: measure
measure: preflight tools ## print what the operator costs with 2,000 pods on a real API server (WORKLOADS=200 PODS=10)
	@cargo build --locked --workspace --bins --example measure
	@ASSAY_TESTKIT_PREBUILT=1 $(or $(CARGO_TARGET_DIR),target)/debug/examples/measure $(or $(WORKLOADS),200) $(or $(PODS),10)

# Own code is optimised, dependencies are those of the tests: a release build takes a quarter of an hour more.
bench_optimised := --config profile.dev.opt-level=1 --config profile.dev.package.assay-testkit.opt-level=0 \
	$(foreach crate,engine policy verify image,--config profile.dev.package.assay-$(crate).opt-level=3)

# A small fleet shows the same counts and ratios as 150,000 pods.
bench_small := --pods 4000 --images 400
bench_full :=

# Pods:images of the fleets on a real API server. 2,000 pods of 50 images are written at the pace that is shipped.
fleets_small := 2000:50
fleets_full := 1000:111 2000:50 3333:1111 10000:333 10000:1111 10000:3333 33333:1111 50000:5500 150000:16400

.PHONY: bench
bench: preflight tools ## measure the engine alone and the operator on fleets of up to 150,000 pods of 16,400 images (SIZE=small for 4,000 at most; FLEETS="1000:111" for some)
	@cargo build --locked --workspace --bins $(bench_optimised)
	@$(or $(CARGO_TARGET_DIR),target)/debug/assay-bench engine $(bench_$(or $(SIZE),full))
	@$(MAKE) --no-print-directory bench-fleets bench-report

.PHONY: bench-fleets
bench-fleets:
	@for fleet in $(or $(FLEETS),$(fleets_$(or $(SIZE),full))); do \
	  pods=$${fleet%:*} images=$${fleet#*:}; \
	  [ "$$fleet" = 2000:50 ] && pace=--shipped-pace || pace=; \
	  ASSAY_TESTKIT_PREBUILT=1 ASSAY_TOOLS_DIR="$$(hack/tools.sh dir)" \
	    $(or $(CARGO_TARGET_DIR),target)/debug/assay-bench fleet --pods $$pods --images $$images $$pace || exit; \
	done

.PHONY: bench-report
bench-report:
	@$(or $(CARGO_TARGET_DIR),target)/debug/assay-bench report

# What the demo runs besides the tools. Built like the tests, so that nothing is built twice.
demo_binaries := assay assay-demo assay-testkit-node assay-testkit-supervisor

.PHONY: demo
demo: preflight ## the whole story on this machine: a cluster, signed images, the operator; leaves it up
	@hack/tools.sh build >/dev/null
	@echo 'building the operator and the demo (minutes the first time, then seconds) …' >&2
	@cargo build --locked --workspace $(addprefix --bin ,$(demo_binaries))
	@ASSAY_TESTKIT_PREBUILT=1 ASSAY_TOOLS_DIR="$$(hack/tools.sh dir)" cargo run --locked --quiet --bin assay-demo -- up --folder .demo

.PHONY: demo-down
demo-down: ## end everything that the demo started and remove its folder
	@if [ -x .demo/assay-demo ]; then .demo/assay-demo down --folder .demo; else echo 'no demo is up' >&2; fi
