# Everything is installed into .venv and its siblings. Nothing outside this folder changes, except that
# make test-browser and make screenshot install Debian's Chromium with apt-get if there is none.
PYTHON ?= python3
# Prints the version of an interpreter, as in Python 3.12; 3.14t is a free-threaded build.
VERSION := import sys; print("Python %d.%d" % sys.version_info[:2] + getattr(sys, "abiflags", ""))
BIN := .venv/bin
# With LOCKED=1, as in CI, versions and hashes are those in requirements/, and pip downloads nothing else.
# PyTorch is the exception: its CPU builds are not on PyPI.
PIP := -m pip install --quiet
PIP_INSTALL := $(strip $(PIP) $(if $(LOCKED),--no-index --no-build-isolation))

.DEFAULT_GOAL := help
.PHONY: FORCE $(shell sed -n 's/^\([a-z-]*\):.* \#\#.*/\1/p' $(firstword $(MAKEFILE_LIST)))
.DELETE_ON_ERROR:
.NOTPARALLEL:  # two targets must not install into .venv at the same time

help:  ## list the main targets; make help-all lists all of them
	@awk -F ':.* ## ' '/^[a-z-]+:.* ## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

help-all:  ### list all targets
	@awk -F ':.* ##+ ' '/^[a-z-]+:.* ##+ / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Creates an environment, again if PYTHON is another version or if its interpreter is gone.
%/pyvenv.cfg: FORCE
	@found="$$($(PYTHON) -c '$(VERSION)' 2>/dev/null)"; \
	case "$$found" in Python\ 3.1[1-9]|Python\ 3.[2-9][0-9]) ;; *) \
		echo "$(PYTHON): found $${found:-no Python}; limbo-compress needs Python 3.11 or later, not" \
			"free-threaded; name one, as in: make PYTHON=python3.12" >&2; exit 1;; esac; \
	if [ ! -e $@ ] || [ "$$($*/bin/python -c '$(VERSION)' 2>/dev/null)" != "$$found" ]; then \
		echo "Creating $* with $$found"; $(PYTHON) -m venv --clear $*; fi

# What has no wheel (jsonpath-rw, for mlcroissant) is built by the locked setuptools.
.venv/locked: .venv/pyvenv.cfg requirements/backend.txt requirements/dev.txt
	for name in backend dev; do $(BIN)/python $(PIP) --require-hashes --no-build-isolation -r requirements/$$name.txt || exit; done
	@touch $@

# The demo needs what users need. The developers' tools are added to it.
$(BIN)/installed-demo: PACKAGES = --editable '.[fast,masks]'
$(BIN)/installed-demo: TAKES = 250 MB
$(BIN)/installed: PACKAGES = --group dev --editable .
$(BIN)/installed: TAKES = 1 GB, which takes a few minutes
$(BIN)/installed-demo $(BIN)/installed: .venv/pyvenv.cfg pyproject.toml setup.py \
		$(wildcard limbo_compress/*/*.c) $(if $(LOCKED),.venv/locked)
	@echo "Installing limbo-compress into .venv: $(TAKES)"
	@# Modules that were compiled for one version of Python would be found first.
	@rm -f limbo_compress/*/*.so
	@$(BIN)/python $(PIP_INSTALL) 'pip>=25.1'  # the first with --group
	@$(BIN)/python $(PIP_INSTALL) $(PACKAGES)
	@# pip compiles only what it copies. Where Python may not write bytecode, every start would compile.
	@$(BIN)/python -m compileall -q limbo_compress
	@touch $(BIN)/installed-demo $@

# Playwright drives the system's Chromium (Debian's package, or CHROMIUM=PATH), and downloads none.
# Where either cannot be installed, the browser's tests are skipped, and pytest says why.
$(BIN)/installed-browser: $(BIN)/installed
	$(BIN)/python $(PIP_INSTALL) --group browser || echo "Playwright or axe-core cannot be installed"
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || { \
		echo "Installing Chromium with apt-get: the only thing outside this folder" && apt-get update -qq \
		&& apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
		|| echo "Chromium cannot be installed"
	@touch $@

.venv-reference/installed: .venv-reference/pyvenv.cfg requirements/reference.txt
	$(<D)/bin/python $(if $(LOCKED),$(PIP) --require-hashes -r requirements/reference.txt,$(PIP) limbo-ml==0.4.0)
	@touch $@

# What builds the files that are published runs nothing but these tools.
.venv-dist/installed: .venv-dist/pyvenv.cfg requirements/dist.txt
	$(<D)/bin/python $(PIP) --require-hashes -r requirements/dist.txt
	@touch $@

demo: $(BIN)/installed-demo  ## generate a small campaign, compress it, and show the outputs
	$(BIN)/python -m benchmarks.campaign build/demo/campaign --samples 100 --distinct 20
	$(BIN)/limbo-compress --prefix build/demo/test --images --metadata --mask big '^48' -- build/demo/campaign
	$(BIN)/python -m benchmarks.show build/demo/test

# PyTorch's version is that of the tests and the figures. Where pip finds no CPU build, it takes CUDA's.
torch: $(BIN)/installed  ### install PyTorch, without which its tests are skipped
	$(BIN)/python $(PIP) $(if $(LOCKED),--no-build-isolation) torch==2.13.0 $(if $(LOCKED),,torchdata) --editable '.[torch]'

wheel: .venv-dist/installed  ## build the sdist and a wheel into dist, and check them
	PATH="$(CURDIR)/.venv-dist/bin:$$PATH" .ci/wheel

record: .venv-reference/installed  ### record the reference's outputs again, for the tests
	.venv-reference/bin/python tests/reference/record.py

# Each of these runs one module, such as nox, whose sessions are in noxfile.py.
test: RUN = pytest -n 2 $(ARGS)  ## run all tests, some at once; ARGS='tests/test_torch.py -x' is for pytest
test-all: RUN = nox -s tests lowest  ## run all tests on every supported Python of this machine, and test-lowest
test-lowest: RUN = nox -s lowest --error-on-missing-interpreters  ### run all tests on the oldest Python with the lowest versions allowed
test-dist: RUN = nox -s wheel sdist  ### run all tests on the files in dist, where nothing can be compiled
test-browser: RUN = pytest tests/inspect/test_browser.py  ## drive the gallery; apt-get installs Chromium if need be
coverage: RUN = nox -s coverage  ## run all tests, and show which lines they reach, in build/coverage, too
check: RUN = nox -s check  ## check lint, formatting, types, import contracts, dead code and the files for GitHub
parity: RUN = benchmarks.parity .venv-reference/bin/limbo-compress tests/reference/samples $(wildcard ../shared/limbo-samples)  ## run the reference on the same data and compare the outputs
docs: RUN = nox -s docs  ## build the documentation into build/docs, and check its links
docs-links: RUN = nox -s links  ### check the links of the documentation to other sites; needs a network
lock: RUN = nox -s lock  ### write requirements/ anew, with the latest versions and their hashes
clients: RUN = nox -s clients  ### let torchvision, Ultralytics, supervision and datumaro read exports
bench: RUN = benchmarks.bench $(if $(DATA),--data '$(DATA)')  ## measure the speed in a few minutes; DATA=DIR for your own samples
bench-full: RUN = benchmarks.bench --full $(if $(DATA),--data '$(DATA)')  ### measure thoroughly; without DATA=DIR, update docs/bench and the README
bench-against: RUN = nox -s against -- $(BASE)  ### compare the speed with another version: BASE=v0.1.0, or the last release
bench-load: RUN = benchmarks.load  ### time loading and epochs of training
bench-million: RUN = benchmarks.million  ### measure what the coordinator needs for a million samples
bench-export: RUN = benchmarks.export  ### time exports of 5000 renders to every format
bench-inspect: RUN = benchmarks.inspect  ### time limbo-inspect on 5000 renders
contenders: RUN = nox -s contenders  ### install the tools that make bench compares with
bombs: RUN = tests.programs.bombs  ### what small files cost that were made to cost much, as a table
faults: RUN = tests.programs.faults  ### send signals, kill workers, damage files and start runs at once, many times
states: RUN = pytest tests/test_states.py tests/test_growing.py  ### run, kill, stop and change jobs in random sequences; SEQUENCES=N of them
enumerate: RUN = tests.programs.enumerate $(if $(FOLDER),--folder '$(FOLDER)')  ### let each file call of a small job go wrong; FOLDER=DIR for the outputs
powercuts: RUN = tests.programs.powercuts $(CASES)  ### cut the power under jobs, and fill disks in writeback; needs root
filesystems: RUN = tests.programs.filesystems  ### run, kill and resume the command on other filesystems; needs root
cluster: RUN = tests.programs.hosts $(ROUNDS)  ### run job arrays and Dask on two hosts of one filesystem; needs root and mergerfs
sanitize: RUN = nox -s sanitize  ### fuzz the compiled modules under AddressSanitizer for a minute
fuzz: RUN = nox -s fuzz -- $(SECONDS)  ### fuzz the readers of foreign bytes for two minutes each
picture: RUN = benchmarks.picture build/demo/test big docs/mask.png  ### redraw the picture of a mask in docs/compress.md
screenshot: RUN = benchmarks.screenshot build/demo/test docs/gallery.webp  ### redraw the README's gallery; apt-get installs Chromium if need be
bench bench-full bench-load: .venv-reference/installed contenders
bench-load: torch
parity: .venv-reference/installed
picture screenshot: demo
states: export STATES = $(or $(SEQUENCES),300)
screenshot test-browser: $(BIN)/installed-browser
$(shell sed -n 's/^\([a-z-]*\): RUN = .*/\1/p' $(firstword $(MAKEFILE_LIST))): $(BIN)/installed
	$(BIN)/python -m $(RUN)

clean:  ## remove environments, builds and caches
	rm -rf .venv .venv-* build dist *.egg-info limbo_compress/*/*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis
