# Everything here is a short name for a command that works by itself; `make help` lists the targets.
# `demo` and `serve` use the dev profile: it is built in a fraction of the time and answers just as visibly.

CARGO ?= cargo
# Tests of components that Rust does not bring along; `tools` gets them.
COMPONENT_TESTS := $(basename $(notdir $(wildcard tests/agent*.rs tests/control_plane*.rs))) corpora discovery labels \
	oracle oracle_prometheus promtool supervisor
# Real servers, their deadlines and floods of connections: they need open files, ports and time.
SLOW_TESTS := https rotation startup stress wire
QUICK_TESTS := $(filter-out $(COMPONENT_TESTS) $(SLOW_TESTS),$(basename $(notdir $(wildcard tests/*.rs))))

.DEFAULT_GOAL := help

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do printf '%-8s %s\n' "$$target" "$$text"; done

demo: ## One pod through the whole path over HTTPS, then exit; needs only Rust.
	$(CARGO) run --locked --quiet -- demo

serve: ## Keep the demo's webhook running and print a curl that works.
	$(CARGO) run --locked --quiet -- demo --serve

test: lint tools ## Everything: format, lints, documentation, all tests.
	$(CARGO) test --locked

quick: lint ## What needs no component beyond Rust, and no patience.
	$(CARGO) test --locked --lib --bins --bench '*' $(addprefix --test ,$(QUICK_TESTS))

lint: ## Format, clippy and documentation, warnings denied.
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps

tools: ## Get what the component tests need; says what is missing.
	tests/tools/setup.sh

golden: ## Write the expected output anew; read the diff.
	UPDATE_GOLDEN=1 TRYCMD=overwrite $(CARGO) test --locked $(addprefix --test ,$(QUICK_TESTS))

bench: ## Measure admission and the server under load; BENCH_QUICK=1 only tries it out.
	$(CARGO) bench --locked --bench '*' $(if $(BENCH_QUICK),-- --test)

deny: ## Check dependencies: licences, advisories, sources.
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny --locked check

.PHONY: help demo serve test quick lint tools golden bench deny
