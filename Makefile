# Every target works on a clean clone: what is missing is installed first.
.DEFAULT_GOAL := help
SHELL := bash
lint := go tool -modfile=tools/lint/go.mod golangci-lint

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

.PHONY: run
run: ## the centre, on http://127.0.0.1:8080
	go run ./cmd/ops

.PHONY: demo
demo: ## centre, Color Game and its crowd; SCENARIO=1…7 makes it misbehave
	@SCENARIO=$(SCENARIO) go run ./examples/colorgame demo

.PHONY: test
test: ## everything that CI checks
	@scripts/test.sh $(STAGES)

.PHONY: test-full
test-full: ## what takes longer: a real Consul (OPS_BACKENDS=folder), hours of torture and fuzzing (FUZZTIME=10m TORTURE=1h)
	@scripts/test-full.sh

.PHONY: torture
torture: ## kill -9 the centre for a while and count what was lost (TORTURE=10m)
	@scripts/torture.sh

.PHONY: corpus
corpus: ## precision and recall of the diagnosis (RUN=regexp DIR=programs KEEP=captures REPLAY=captures NOISE=1 OUT=file.json)
	@scripts/corpus.sh

.PHONY: bench
bench: ## benchmarks and their tables; bench/README.md keeps the results
	@scripts/bench.sh

.PHONY: bench-ui
bench-ui: ## the page's benchmarks next to what they replace: 16 GB, or PEER=0
	@scripts/bench-ui.sh

.PHONY: lint
lint: ## golangci-lint over everything
	$(lint) run ./...

.PHONY: gen
gen: ## generated code, after a change of proto/
	@scripts/gen.sh

.PHONY: ui
ui: ## the web page into web/dist
	@scripts/setup.sh node
	npm --prefix web run build

.PHONY: screenshots
screenshots: ## pictures of every page into docs/screenshots, from a demo of their own
	@scripts/screenshots.sh

.PHONY: setup
setup: ## what the tests need: Debian packages as root, npm packages
	@scripts/setup.sh
