.DEFAULT_GOAL := help

.PHONY: help
help: ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: tools
tools: ## build the pinned servers and clients that tests and the demo need; prints their folder last
	@hack/tools.sh build

.PHONY: tools-dir
tools-dir: ## print the folder of the tools without building them
	@hack/tools.sh dir
