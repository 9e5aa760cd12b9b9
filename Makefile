# Everything is installed into .venv, from this project's own files.
PYTHON ?= python3
BIN := .venv/bin
REFERENCE := .venv-reference
CONTENDERS := .venv-contenders
CAMPAIGN := build/demo/campaign

.DEFAULT_GOAL := help
.PHONY: help demo picture test check parity faults bench bench-full record clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/installed: pyproject.toml setup.py $(wildcard limbo_compress/*/*.c)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@# As pip does for what it copies: where Python writes no bytecode itself, every start compiles.
	$(BIN)/python -m compileall -q limbo_compress
	@touch $@

$(REFERENCE)/installed:
	$(PYTHON) -m venv $(REFERENCE)
	$(REFERENCE)/bin/python -m pip install --quiet limbo-ml==0.4.0
	@touch $@

# An environment for each, as they disagree on versions: what cannot be installed is left out, and
# the benchmark says so. PyPI's torch brings many gigabytes for GPUs, which no benchmark needs: set
# PIP_INDEX_URL and PIP_EXTRA_INDEX_URL to one with CPU wheels to save them.
$(CONTENDERS)/installed: benchmarks/constraints.txt Makefile
	for name in plain pool datasets litdata streaming; do \
		$(PYTHON) -m venv $(CONTENDERS)/$$name; \
		case $$name in \
			plain) packages=;; \
			pool) packages='pillow scikit-image imagecat';; \
			streaming) packages=mosaicml-streaming;; \
			*) packages=$$name;; \
		esac; \
		$(CONTENDERS)/$$name/bin/python -m pip install --quiet --constraint $< \
			--editable . $$packages || echo "$$name: cannot be installed"; \
	done
	@touch $@

$(BIN)/installed-bench: $(BIN)/installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

BENCH := $(BIN)/installed-bench $(REFERENCE)/installed $(CONTENDERS)/installed

demo: $(BIN)/installed  ## generate a small campaign, compress it, and show what came out
	$(BIN)/python -m benchmarks.campaign $(CAMPAIGN) --samples 100 --distinct 20
	$(BIN)/limbo-compress --prefix build/demo/test --images --metadata --mask big '^48' -- $(CAMPAIGN)
	$(BIN)/python -m benchmarks.show build/demo/test

picture: demo  ## draw the README's picture anew
	$(BIN)/python -m benchmarks.picture build/demo/test big docs/mask.png

test: $(BIN)/installed  ## run all tests
	$(BIN)/python -m pytest

check: $(BIN)/installed  ## lint, formatting, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

parity: $(BIN)/installed $(REFERENCE)/installed  ## compare with the reference, run side by side
	$(BIN)/python -m benchmarks.parity $(REFERENCE)/bin/limbo-compress \
		tests/reference/samples $(wildcard ../shared/limbo-samples)

faults: $(BIN)/installed  ## kill, damage, fill up: all that happens to long jobs, many times
	$(BIN)/python -m tests.faults

bench: $(BENCH)  ## measure the speed, in minutes; DATA=DIR for samples of your own
	$(BIN)/python -m benchmarks.bench $(if $(DATA),--data '$(DATA)')

bench-full: $(BENCH)  ## the same at length, for the README; DATA=DIR as well
	$(BIN)/python -m benchmarks.bench --full $(if $(DATA),--data '$(DATA)')

record: $(REFERENCE)/installed  ## record the reference's outputs anew, for the tests
	$(REFERENCE)/bin/python tests/reference/record.py

clean:  ## remove all that was made
	rm -rf .venv $(REFERENCE) $(CONTENDERS) build *.egg-info limbo_compress/*/*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis
