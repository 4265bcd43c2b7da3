# Everything here is a short name for a command that works by itself; `make help` lists the targets.
# `demo` and `serve` use the dev profile: it is built in a fraction of the time and answers just as visibly.

CARGO ?= cargo
# Tests of receivers that take minutes to build: `receivers` runs them, `test` does not.
RECEIVER_TESTS := receivers
TESTS := $(filter-out $(RECEIVER_TESTS),$(basename $(notdir $(wildcard tests/*.rs))))
# Tests of components that Rust does not bring along; `tools` gets them.
COMPONENT_TESTS := $(filter agent% control_plane% oracle% %monitors,$(TESTS)) corpora discovery labels observability overlays promtool series series_services services supervisor
# Tests on a real node, which needs root and a kernel that can. E2E=0 leaves them out, and says so in the end.
E2E_TESTS := $(filter e2e_%,$(TESTS))
# Real servers, their deadlines and floods of connections: they need open files, ports and time.
SLOW_TESTS := https rotation startup stress wire
QUICK_TESTS := $(filter-out $(COMPONENT_TESTS) $(SLOW_TESTS) $(E2E_TESTS),$(TESTS))

# `test` runs these groups side by side, JOBS at a time: most tests wait for a server. The files of a group run one after
# another; there can be one node at a time. The control plane's are in two groups that take about as long as each other.
JOBS := 3
OUTAGES := $(addprefix control_plane_,certificate check controller outages rbac recovery store upgrade)
CONTROL_PLANE := $(filter control_plane%,$(TESTS))
AGENTS := $(filter agent%,$(TESTS)) labels monitors promtool supervisor
# These run after the groups, alone: floods, deadlines, probes and memory that others would share.
ALONE := $(SLOW_TESTS) agent_limits control_plane_lease control_plane_rotation $(if $(filter 0,$(E2E)),,e2e_app_first e2e_termination)
arguments = $(addprefix --test ,$1)
group-node = $(call arguments,$(filter-out $(ALONE),$(E2E_TESTS)))
group-outages = $(call arguments,$(OUTAGES))
group-control-plane = $(call arguments,$(filter-out $(ALONE) $(OUTAGES),$(CONTROL_PLANE)))
group-agents = $(call arguments,$(filter-out $(ALONE),$(AGENTS)))
# Whatever no other group has.
group-rest = --lib --bins $(call arguments,$(filter-out $(E2E_TESTS) $(CONTROL_PLANE) $(AGENTS) $(ALONE),$(TESTS)))
group-doc = --doc
group-alone = --bench '*' $(call arguments,$(ALONE))
SIDE_BY_SIDE := $(if $(filter 0,$(E2E)),,group-node) group-outages group-control-plane group-rest group-agents group-doc
# What each group printed; it is shown when the group is done.
LOGS := target/test-logs

# The program as a next release could be, which tests of upgrades run beside this one.
NEXT := --features next-version --bin promsidecar-next

# How many tests of a real node there are, and the line that says that they were left out.
COUNT_E2E = $(CARGO) test --locked --quiet $(addprefix --test ,$(E2E_TESTS)) -- --list | grep -c ': test$$'
NOT_RUN = number=$$($(COUNT_E2E)) && echo "NOT RUN: e2e ($$number tests)"

.DEFAULT_GOAL := help

help: ## List the targets.
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do printf '%-9s %s\n' "$$target" "$$text"; done

demo: ## One pod through the whole path over HTTPS, then exit; needs only Rust.
	$(CARGO) run --locked --quiet -- demo

serve: ## Keep the demo's webhook running and print a curl that works.
	$(CARGO) run --locked --quiet -- demo --serve

test: lint tools ## Everything: format, lints, documentation, all tests.
	$(CARGO) test --locked --no-run
	$(CARGO) build --locked $(NEXT)
	@rm -rf $(LOGS) && mkdir -p $(LOGS)
	@failed=; \
	$(MAKE) --no-print-directory --keep-going --jobs=$(JOBS) --output-sync=target $(SIDE_BY_SIDE) || failed=yes; \
	$(MAKE) --no-print-directory group-alone || failed=yes; \
	test -z "$$failed" || { awk "$$FAILURES" $(LOGS)/*.log; exit 1; }
	@grep -hE '(compared|label_sets|unexplained differences)[^|]*: [0-9]' $(LOGS)/*.log
ifeq ($(E2E),0)
	@$(NOT_RUN)
endif

# No group stops at a failure, and none lends cargo the jobserver of make. What tests count is shown where they pass too;
# benchmarks, which are alone, know no such flag.
$(SIDE_BY_SIDE): SHOWN := -- --show-output
$(SIDE_BY_SIDE) group-alone:
	@began=$$(date +%s); \
	env -u MAKEFLAGS $(CARGO) test --locked --no-fail-fast $($@) $(SHOWN) >$(LOGS)/$@.log 2>&1; code=$$?; \
	echo "$@: exit code $$code after $$(($$(date +%s) - began)) s" >>$(LOGS)/$@.log; \
	cat $(LOGS)/$@.log; \
	exit $$code

e2e: $(if $(filter 0,$(E2E)),,tools) ## Injected pods on a real node, with the times it takes; needs root. E2E=0 leaves them out, also of test.
ifeq ($(E2E),0)
	@$(NOT_RUN)
else
	$(CARGO) test --locked $(addprefix --test ,$(E2E_TESTS)) -- --nocapture
endif

receivers: tools ## Agents deliver to Thanos Receive, VictoriaMetrics and Cortex, which are built first; not part of test.
	tests/tools/receivers.sh
	$(CARGO) test --locked $(call arguments,$(RECEIVER_TESTS)) -- --nocapture --test-threads=1

quick: lint ## What needs no component beyond Rust, and no patience.
	$(CARGO) test --locked --lib --bins --bench '*' $(addprefix --test ,$(QUICK_TESTS))

lint: ## Format, clippy and documentation, warnings denied.
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --lib $(NEXT) -- -D warnings
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

# What is said in the end: the tests that failed, and what to run again.
define FAILURES
BEGIN { print "\nFAILED; all that was printed is in $(LOGS):" }
FNR == 1 { group = FILENAME; sub(".*/", "", group); sub("[.]log$$", "", group) }
/^ +Running / { file = $$2 == "unittests" ? $$3 : $$2 }
/^ +Doc-tests / { file = "documentation" }
/^test .* [.][.][.] FAILED$$/ { sub("^test ", ""); sub(" [.][.][.] FAILED$$", ""); print "  " file ": " $$0 }
/^ +process didn.t exit successfully/ { print "  " $$0 }
/^error: [0-9]+ targets? failed/ { next }
/^error: test failed, to rerun pass/ { gsub("`", ""); sub(".* pass ", ""); print "  again: cargo test --locked " $$0; next }
/^error/ { print "  " group ": " $$0 }
/^group-[a-z-]+: exit code [1-9]/ { print "  " $$0 }
endef
export FAILURES

.PHONY: help demo serve test e2e receivers quick lint tools golden bench deny group-alone $(SIDE_BY_SIDE)
