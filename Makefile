# Everything is installed into .venv and its siblings. Nothing outside this folder changes, except that
# make test-browser and make screenshot install Debian's Chromium with apt-get if there is none.
PYTHON ?= python3
# Prints the version of an interpreter, as in Python 3.12; 3.14t is a free-threaded build.
VERSION := import sys; print("Python %d.%d" % sys.version_info[:2] + getattr(sys, "abiflags", ""))
BIN := .venv/bin
REFERENCE := .venv-reference
CONTENDERS := .venv-contenders
CLIENTS := .venv-clients
DIST := .venv-dist
FUZZ := .venv-fuzz
# With LOCKED=1, as in CI, versions and hashes are those in requirements/, and pip downloads nothing else.
# PyTorch is the exception: its CPU builds are not on PyPI.
PIP_INSTALL := $(strip -m pip install --quiet $(if $(LOCKED),--no-index --no-build-isolation))
PIP_LOCKED := -m pip install --quiet --require-hashes --requirement
CAMPAIGN := build/demo/campaign
# For make bench-against: the last release before this commit.
BASE ?= $(shell git describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help wheel test-dist dist lock torch demo picture screenshot test test-all test-lowest \
	test-browser coverage check parity bombs faults states enumerate powercuts filesystems cluster sanitize fuzz bench \
	bench-against bench-full bench-load bench-million bench-export bench-inspect docs docs-links record \
	clients clean FORCE
.DELETE_ON_ERROR:
# Two targets must not install into .venv at the same time.
.NOTPARALLEL:

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Creates an environment, again if PYTHON is another version or if its interpreter is gone.
%/pyvenv.cfg: FORCE
	@found="$$($(PYTHON) -c '$(VERSION)' 2>/dev/null)"; \
	case "$$found" in \
		Python\ 3.1[1-9]|Python\ 3.[2-9][0-9]) ;; \
		*) echo "$(PYTHON): found $${found:-no Python}; limbo-compress needs Python 3.11 or later, not" \
			"free-threaded; name one, as in: make PYTHON=python3.12" >&2; exit 1;; \
	esac; \
	if [ ! -e $@ ] || [ "$$($*/bin/python -c '$(VERSION)' 2>/dev/null)" != "$$found" ]; then \
		echo "Creating $* with $$found"; \
		$(PYTHON) -m venv --clear $*; \
	fi

.venv/locked: .venv/pyvenv.cfg requirements/dev.txt
	$(BIN)/python $(PIP_LOCKED) requirements/dev.txt
	@touch $@

# The demo needs what users need. The developers' tools are added to it.
$(BIN)/installed-demo: EXTRAS := fast,masks
$(BIN)/installed: EXTRAS := dev
$(BIN)/installed-demo: TAKES := 250 MB
$(BIN)/installed: TAKES := 1 GB, which takes a few minutes
$(BIN)/installed-demo $(BIN)/installed: .venv/pyvenv.cfg pyproject.toml setup.py \
		$(wildcard limbo_compress/*/*.c) $(if $(LOCKED),.venv/locked)
	@echo 'Installing limbo-compress[$(EXTRAS)] into .venv: $(TAKES)'
	@# Modules that were compiled for one version of Python would be found first.
	@rm -f limbo_compress/*/*.so
	@$(BIN)/python $(PIP_INSTALL) --editable '.[$(EXTRAS)]'
	@# pip compiles only what it copies. Where Python may not write bytecode, every start would compile.
	@$(BIN)/python -m compileall -q limbo_compress
	@touch $(BIN)/installed-demo $@

$(REFERENCE)/installed: $(REFERENCE)/pyvenv.cfg
	$(REFERENCE)/bin/python $(if $(LOCKED),$(PIP_LOCKED) requirements/reference.txt,$(PIP_INSTALL) limbo-ml==0.4.0)
	@touch $@

# One environment each, because they need conflicting versions. A tool that cannot be installed is
# skipped, and the benchmark says so. PyPI's torch brings many gigabytes for GPUs, which no benchmark
# needs; to avoid them, set PIP_INDEX_URL and PIP_EXTRA_INDEX_URL to an index with CPU wheels.
$(CONTENDERS)/installed: benchmarks/constraints.txt Makefile $(CONTENDERS)/plain/pyvenv.cfg
	for name in plain pool datasets litdata streaming; do \
		$(PYTHON) -m venv --clear $(CONTENDERS)/$$name; \
		case $$name in \
			plain) packages=;; \
			pool) packages='pillow scikit-image imagecat';; \
			datasets) packages='datasets torch';; \
			streaming) packages=mosaicml-streaming;; \
			*) packages=$$name;; \
		esac; \
		$(CONTENDERS)/$$name/bin/python -m pip install --quiet --constraint $< \
			--editable . $$packages || echo "$$name: skipped, cannot be installed"; \
	done
	@touch $@

$(BIN)/installed-bench: $(BIN)/installed
	$(BIN)/python $(PIP_INSTALL) --editable '.[bench]'
	@touch $@

# Readers of exports. Some need other versions than ours, such as OpenCV below 5. As above, PyPI's
# torch is large.
$(CLIENTS)/installed: $(CLIENTS)/pyvenv.cfg
	$(CLIENTS)/bin/python -m pip install --quiet torch torchvision ultralytics supervision datumaro pycocotools
	@touch $@

# Nothing else needs atheris, which is not for every Python and system.
$(FUZZ)/installed: $(FUZZ)/pyvenv.cfg pyproject.toml setup.py $(wildcard limbo_compress/*/*.c)
	$(FUZZ)/bin/python -m pip install --quiet atheris --editable '.[fast,inspect,masks]'
	@touch $@

# For make sanitize, which loads these instead of the installed ones.
SANITIZED := $(patsubst limbo_compress/%.c,build/sanitize/%.so,$(wildcard limbo_compress/*/*.c))

build/sanitize/%.so: limbo_compress/%.c
	@mkdir -p $(@D)
	$(CC) -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -ffp-contract=off -fPIC -shared \
		-I$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))') $< -o $@

# The version that the tests and the figures are of. Where pip finds no CPU build, it takes CUDA's.
$(BIN)/installed-torch: $(BIN)/installed
	$(BIN)/python -m pip install --quiet $(if $(LOCKED),--no-build-isolation) torch==2.13.0 --editable '.[torch]'
	@touch $@

# Playwright drives the system's Chromium (Debian's package, or CHROMIUM=PATH), and downloads none.
# Where either cannot be installed, the browser's tests are skipped, and pytest says why.
$(BIN)/installed-browser: $(BIN)/installed
	$(BIN)/python $(PIP_INSTALL) --editable '.[browser]' \
		|| echo "Playwright or axe-core cannot be installed"
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || { \
		echo "Installing Chromium with apt-get: the only thing outside this folder" \
		&& apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
		|| echo "Chromium cannot be installed"
	@touch $@

# What builds the files that are published runs nothing but these tools.
$(DIST)/installed: $(DIST)/pyvenv.cfg requirements/dist.txt
	$(DIST)/bin/python $(PIP_LOCKED) requirements/dist.txt
	@touch $@

$(BIN)/installed-docs: $(BIN)/installed
	$(BIN)/python $(PIP_INSTALL) --editable '.[docs]'
	@touch $@

BENCH := $(BIN)/installed-bench $(REFERENCE)/installed $(CONTENDERS)/installed

demo: $(BIN)/installed-demo  ## generate a small campaign, compress it, and show the outputs
	@echo 'Generating 100 samples in $(CAMPAIGN)'
	$(BIN)/python -m benchmarks.campaign $(CAMPAIGN) --samples 100 --distinct 20
	@echo 'Compressing them into build/demo'
	$(BIN)/limbo-compress --prefix build/demo/test --images --metadata --mask big '^48' -- $(CAMPAIGN)
	@echo 'Reading the outputs back'
	$(BIN)/python -m benchmarks.show build/demo/test

picture: demo  ## redraw the picture of a mask in docs/compress.md
	$(BIN)/python -m benchmarks.picture build/demo/test big docs/mask.png

screenshot: demo $(BIN)/installed-browser  ## redraw the README's gallery; apt-get installs Chromium if need be
	$(BIN)/python -m benchmarks.screenshot build/demo/test docs/gallery.webp

wheel: $(DIST)/installed  ## build the sdist and a wheel into dist, and check them
	$(DIST)/bin/python -m tests.dist build

test-dist: $(BIN)/installed  ## run all tests on the files in dist, where nothing can be compiled
	$(BIN)/python -m tests.dist test

dist: wheel test-dist  ## do both

# For every Python and system of CI. Dependabot proposes newer versions each week.
LOCK := $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command 'make lock' --upgrade

lock: $(BIN)/installed  ## write requirements/ anew, with the latest versions and their hashes
	$(LOCK) --group backend --output-file requirements/backend.txt
	$(LOCK) --group dist --output-file requirements/dist.txt
	$(LOCK) pyproject.toml --group backend --extra dev --extra docs --extra browser \
		--output-file requirements/dev.txt
	echo limbo-ml==0.4.0 | $(LOCK) - --output-file requirements/reference.txt

torch: $(BIN)/installed-torch  ## install PyTorch, without which its tests are skipped

test: $(BIN)/installed  ## run all tests, some at once
	$(BIN)/python -m pytest -n 2

test-all: $(BIN)/installed  ## run all tests on every supported Python of this machine, and test-lowest
	$(BIN)/python -m tests.pythons

test-lowest: $(BIN)/installed  ## run all tests on the oldest Python with the lowest versions allowed
	$(BIN)/python -m tests.pythons --lowest

test-browser: $(BIN)/installed-browser  ## drive the gallery; apt-get installs Chromium if need be
	$(BIN)/python -m pytest tests/inspect/test_browser.py

clients: $(BIN)/installed $(CLIENTS)/installed  ## let torchvision, Ultralytics, supervision and datumaro read exports
	$(BIN)/python -m tests.programs.clients.run $(CLIENTS)/bin/python

coverage: $(BIN)/installed  ## run all tests, and show which lines they reach, in build/coverage, too
	@mkdir -p build/coverage
	$(BIN)/coverage erase
	@# A test that fails is no reason to show nothing.
	$(BIN)/coverage run -m pytest -n 2; failed=$$?; \
		$(BIN)/coverage combine --quiet; \
		$(BIN)/coverage html --quiet --fail-under=0; \
		$(BIN)/coverage report --format=markdown --fail-under=0 >build/coverage/report.md; \
		$(BIN)/coverage report && exit $$failed

check: $(BIN)/installed  ## check lint, formatting, types, import contracts and the files for GitHub
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --pedantic --quiet .github
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

parity: $(BIN)/installed $(REFERENCE)/installed  ## run the reference on the same data and compare the outputs
	$(BIN)/python -m benchmarks.parity $(REFERENCE)/bin/limbo-compress \
		tests/reference/samples $(wildcard ../shared/limbo-samples)

faults: $(BIN)/installed  ## kill jobs, damage their files, fill their disk, many times
	$(BIN)/python -m tests.programs.faults

states: $(BIN)/installed  ## run, kill, stop and change jobs in random sequences; SEQUENCES=N of them
	STATES=$(or $(SEQUENCES),300) $(BIN)/python -m pytest tests/test_states.py

powercuts: $(BIN)/installed  ## cut the power under jobs, and fill disks in writeback; needs root
	$(BIN)/python -m tests.programs.powercuts $(CASES)

enumerate: $(BIN)/installed  ## let each file call of a small job go wrong; FOLDER=DIR for the outputs
	$(BIN)/python -m tests.programs.enumerate $(if $(FOLDER),--folder '$(FOLDER)')

cluster: $(BIN)/installed  ## run job arrays and Dask on two hosts of one filesystem; needs root and mergerfs
	$(BIN)/python -m tests.programs.hosts $(ROUNDS)

bombs: $(BIN)/installed  ## what small files cost that were made to cost much, as a table
	$(BIN)/python -m tests.programs.bombs

sanitize: $(BIN)/installed $(SANITIZED)  ## fuzz the compiled modules under AddressSanitizer for a minute
	@# Without its own allocator, Python takes every buffer from malloc, which the sanitizer guards.
	LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
		$(BIN)/python -m tests.programs.sanitize $(SANITIZED)

fuzz: $(FUZZ)/installed  ## fuzz the readers of foreign bytes for two minutes each
	$(FUZZ)/bin/python -m tests.programs.fuzz $(SECONDS)

filesystems: $(BIN)/installed  ## run, kill and resume the command on other filesystems; needs root
	$(BIN)/python -m tests.programs.filesystems

bench: $(BENCH)  ## measure the speed in a few minutes; DATA=DIR for your own samples
	$(BIN)/python -m benchmarks.bench $(if $(DATA),--data '$(DATA)')

# Both are installed as users do it: compiled for themselves, and not editable.
bench-against: $(BIN)/installed  ## compare the speed with another version: BASE=v0.1.0, or the last release
	@test -n '$(BASE)' || { echo 'There is no release yet: name a commit with BASE=' >&2; exit 1; }
	rm -rf build/against
	git clone --quiet --no-checkout . build/against/source
	git -C build/against/source checkout --quiet --detach "$$(git rev-parse '$(BASE)^{commit}')"
	$(PYTHON) -m venv build/against/base
	build/against/base/bin/python -m pip install --quiet 'build/against/source[fast,masks]'
	$(PYTHON) -m venv build/against/checkout
	build/against/checkout/bin/python -m pip install --quiet '.[fast,masks]'
	$(BIN)/python -m benchmarks.against '$(BASE)'

bench-full: $(BENCH)  ## measure thoroughly; without DATA=DIR, update docs/bench and the README
	$(BIN)/python -m benchmarks.bench --full $(if $(DATA),--data '$(DATA)')

bench-load: $(BENCH) $(BIN)/installed-torch  ## time loading and epochs of training
	$(BIN)/python -m benchmarks.load

bench-million: $(BIN)/installed  ## measure what the coordinator needs for a million samples
	$(BIN)/python -m benchmarks.million

bench-export: $(BIN)/installed-bench  ## time exports of 5000 renders to every format
	$(BIN)/python -m benchmarks.export

bench-inspect: $(BIN)/installed  ## time limbo-inspect on 5000 renders
	$(BIN)/python -m benchmarks.inspect

docs: $(BIN)/installed-docs  ## build the documentation into build/docs, and check its links
	$(BIN)/sphinx-build -W --keep-going -q -E -d build/doctrees docs build/docs
	@# The links once more, as the code host sees them: in the README, and from each file's own place.
	$(BIN)/sphinx-build -W --keep-going -q -E -C -d build/doctrees-host -b dummy -D extensions=myst_parser \
		-D root_doc=README -D myst_heading_anchors=6 -D suppress_warnings=toc,myst.directive_unknown \
		-D 'include_patterns=**.md' -D 'exclude_patterns=.*,build' . build/host

docs-links: $(BIN)/installed-docs  ## check the links of the documentation to other sites; needs a network
	$(BIN)/sphinx-build -W --keep-going -q -E -d build/doctrees -b linkcheck docs build/links

record: $(REFERENCE)/installed  ## record the reference's outputs again, for the tests
	$(REFERENCE)/bin/python tests/reference/record.py

clean:  ## remove environments, builds and caches
	rm -rf .venv $(DIST) $(FUZZ) $(REFERENCE) $(CONTENDERS) $(CLIENTS) build dist *.egg-info limbo_compress/*/*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis
