# Forebay: every task of the repository, each doing its own set-up.
#
# What a machine must have: a Rust toolchain, Python >= 3.11, a C/C++ compiler. The rest (the virtual
# environment, the pinned tools, Go, Debian packages) is fetched here; where that needs rights we do not have,
# the exact command to type is printed and the target fails.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The steps share one cargo target directory and one virtual environment: side by side they would only
# wait for each other's locks.
.NOTPARALLEL:

CARGO ?= cargo
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=
ROUNDS ?= 50
CBINDGEN_VERSION := 0.29.4

VENV := .venv
PY := $(VENV)/bin/python
# The stamps live inside what they stand for, so that removing the directory also forgets them.
TOOLS := $(VENV)/.tools-installed
PACKAGE := $(VENV)/.forebay-installed
CBINDGEN_ROOT := build/tools
CBINDGEN := $(CURDIR)/$(CBINDGEN_ROOT)/bin/cbindgen
CBINDGEN_STAMP := $(CBINDGEN_ROOT)/.cbindgen-$(CBINDGEN_VERSION)

CARGO_C_VERSION := 0.10.24+cargo-0.98.0
CARGO_C_STAMP := build/tools/.cargo-c-$(CARGO_C_VERSION)

# One interpreter for every cargo call: pyo3's build script runs again, and with it everything that stands
# on pyo3, whenever this changes.
export PYO3_PYTHON := $(CURDIR)/$(PY)
# pip and maturin start programs of the environment (maturin, ruff) by name.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PACKAGE_SOURCES := $(shell find core cli python Cargo.toml Cargo.lock pyproject.toml -type f \
	-not -name '*.pyc' 2>/dev/null)

# A step whose files have not been written yet says so, and fails where nothing may be missing: in CI.
when = @if $(1); then (set -x; $(2)); else echo "not there yet: $(1)"; test -z "$${CI:-}"; fi
say = @printf '\n== %s\n' "$(1)"

.PHONY: help demo test bench overload site install uninstall nightly nightly-crash nightly-books nightly-pythons nightly-cargo-c nightly-sdist sdist clean
.PHONY: fmt clippy doc test-rust test-shuttle test-c test-go test-python test-examples

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(PACKAGE) ## the main job: deliver the Python standard library over bad HTTP, across a restart (DEMO_ARGS=--durable: a dozen kills)
	$(PY) examples/delivery/demo.py $(DEMO_ARGS) $(ARGS)

test: fmt clippy doc test-rust test-shuttle test-c test-go test-python test-examples ## every gate and every test
	@printf '\n== make test: everything passed\n'

bench: $(PACKAGE) ## every measurement, beside the rivals (20 minutes; QUICK=1: two; ARGS=--write: the page)
	@scripts/need.sh rust cc pkg-config go
	$(PY) -m pip install --quiet -r benches/python/rivals.txt || echo "rivals of Python's are left out"
	$(PY) benches/report $(if $(QUICK),--quick) $(ARGS)

# Virtual time and one seed: the figures are the same on every machine, however busy it is.
overload: ## what each policy makes of too much work, simulated, into docs/overload.md (ARGS: some of it, to the terminal)
	@scripts/need.sh rust cc
	$(CARGO) bench -p forebay-benches --bench overload -- $(or $(ARGS),--write '$(CURDIR)/docs/overload.md')

install: ## the command forebay, the C library (shared, archive), headers, what pkg-config and CMake read; PREFIX, LIBDIR, DESTDIR
	@scripts/need.sh rust cc
	RUSTFLAGS="$$(scripts/rust-flags.sh)" $(CARGO) build --release -p forebay-cli
	install -D -s -m 755 "$${CARGO_TARGET_DIR:-target}/release/forebay" '$(DESTDIR)$(PREFIX)/bin/forebay'
	$(MAKE) -C cbind install PREFIX='$(PREFIX)' LIBDIR='$(LIBDIR)' DESTDIR='$(DESTDIR)'

uninstall: ## remove what install made, given the same PREFIX, LIBDIR and DESTDIR
	rm -f '$(DESTDIR)$(PREFIX)/bin/forebay'
	$(MAKE) -C cbind uninstall PREFIX='$(PREFIX)' LIBDIR='$(LIBDIR)' DESTDIR='$(DESTDIR)'

# Each round of the schedules draws new seeds, so a repetition is no repetition; the Python tests repeat their
# races between processes, threads and signals themselves.
nightly: test ## make test, then ROUNDS more of random schedules and of the Python tests, long property tests
	$(call say,long property tests)
	PROPTEST_CASES=20000 $(CARGO) test --workspace --exclude forebay-python --all-features
	$(MAKE) --no-print-directory nightly-crash
	$(MAKE) --no-print-directory nightly-books
	$(MAKE) --no-print-directory nightly-cargo-c
	$(MAKE) --no-print-directory nightly-sdist
	for round in $$(seq $(ROUNDS)); do $(MAKE) --no-print-directory test-shuttle; done
	FBY_TEST_NIGHTLY=1 build/c/c-plain tickets races forks
	FOREBAY_ROUNDS=200 FOREBAY_MODEL=50 $(PY) -m pytest -q --timeout 3600 tests/python
	$(MAKE) --no-print-directory nightly-pythons

# Sizes and what each shows: docs/reliability.md. Nothing may be skipped here.
nightly-crash: ## crashes at the nightly size: kills, faults of every call, power cuts, simulated histories
	$(call say,crashes)
	@scripts/need.sh rust cc strace
	FOREBAY_NO_SKIPS=1 FOREBAY_KILLS=20000 FOREBAY_SYSCALLS=1000000 FOREBAY_FAULTS=1000000 \
		FOREBAY_PROMISES=1000000 FOREBAY_IMAGES=1000 FOREBAY_HISTORIES=1000000 $(CARGO) test --release -p forebay-tests --test crash

# Each has an environment of its own, with the same wheel.
nightly-pythons: $(PACKAGE) ## the Python tests on every CPython >= 3.11 of the machine
	$(call say,every Python)
	@mkdir -p build/pythons
	$(PY) -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir build/pythons .
	for python in $$(scripts/find-python.sh --all); do \
		echo "== $$python"; \
		venv=build/pythons/$$("$$python" -c 'import sys; print("venv%d.%d%s" % (*sys.version_info[:2], sys.abiflags))'); \
		"$$python" -m venv $$venv; \
		$$venv/bin/python -m pip install --quiet -r scripts/requirements-dev.txt build/pythons/forebay-*.whl; \
		$$venv/bin/python -m pytest -q tests/python; \
	done

nightly-books: ## a hundred million jobs under every policy at once, each accounted for
	$(call say,books)
	@scripts/need.sh rust cc
	$(CARGO) bench -p forebay-benches --bench overload -- --only books --strict

# Compiling cargo-c takes a quarter of an hour, which the gate does not have. The newest one wants a newer Rust.
nightly-cargo-c: ## an installation made by cargo-c, and programs against it
	$(call say,cargo-c)
	@scripts/need.sh rust cc pkg-config openssl
	test -e $(CARGO_C_STAMP) || { \
		$(CARGO) install cargo-c --version $(CARGO_C_VERSION) --locked --root build/tools && touch $(CARGO_C_STAMP); }
	tests/install/cargo-c.sh build/tools/bin/cargo-cinstall '$(CURDIR)/build/cargo-c'

site: $(PACKAGE) ## the documentation as a site, into build/site
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

nightly-sdist: $(TOOLS) ## the Python package from its source distribution, without a network, in bare environments
	$(call say,source distribution)
	@scripts/need.sh rust cc
	PY=$(PY) tests/install/sdist.sh build/sdist

sdist: $(TOOLS) ## the source distribution of the Python package, into build/
	@scripts/need.sh rust
	PY=$(PY) scripts/sdist.sh build

clean: ## remove what the targets above made
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache
	$(CARGO) clean

# ---- gates -------------------------------------------------------------------------------------------

fmt: ## rustfmt, check only
	$(call say,rustfmt)
	@scripts/need.sh rust rust-tools
	$(CARGO) fmt --all --check

clippy: $(TOOLS) ## clippy over every target and feature, warnings denied
	$(call say,clippy)
	@scripts/need.sh rust rust-tools cc
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings

doc: $(TOOLS) ## rustdoc, warnings denied
	$(call say,rustdoc)
	@scripts/need.sh rust cc
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace --all-features

# ---- tests -------------------------------------------------------------------------------------------

# The Python module is tested through Python: a Rust test binary of it would have to link libpython, which
# a Debian machine without python3-dev does not have.
test-rust: $(TOOLS) ## Rust: unit, conformance, scenario, crash, house and feature-table tests
	$(call say,Rust tests)
	@scripts/need.sh rust cc strace
	$(CARGO) test --workspace --exclude forebay-python --all-features

# `--cfg shuttle` swaps the locks and atomics of the core, hence a target directory of its own: in the
# shared one the two builds would evict each other. A filter that fits no test would pass in silence.
test-shuttle: ## Rust: random schedules of the concurrency protocols
	$(call say,random schedules)
	@scripts/need.sh rust cc
	@mkdir -p build
	RUSTFLAGS="--cfg shuttle" CARGO_TARGET_DIR="$${CARGO_TARGET_DIR:-target}/shuttle" \
		$(CARGO) test -p forebay --lib shuttle | tee build/shuttle.log
	@grep -q '^test result: ok. [1-9]' build/shuttle.log

test-c: $(CBINDGEN_STAMP) ## C and C++: header, exported symbols, install, programs under ASan and valgrind
	$(call say,C and C++ tests)
	@scripts/need.sh rust cc c++ asan pkg-config cmake valgrind jansson nlohmann-json
	$(call when,test -e cbind/Makefile,$(MAKE) -C cbind test CBINDGEN='$(CBINDGEN)')

test-go: $(TOOLS) ## Go: gofmt, vet, tests under the race detector
	$(call say,Go tests)
	@scripts/need.sh rust cc pkg-config go
	$(MAKE) --no-print-directory -C cbind stage
	$(MAKE) --no-print-directory -C cbind/go test PREFIX='$(CURDIR)/build/c/prefix'

test-python: $(PACKAGE) ## Python: ruff, mypy and pyright in strict mode, stubtest, pytest
	$(call say,Python tests)
	@scripts/need.sh node cc
	ruff check .
	ruff format --check .
	$(call when,test -e python/forebay,$(PY) -m mypy)
	PY=$(PY) tests/install/wheel.sh build/wheel/*.whl
	$(call when,test -e tests/python,$(PY) -m pytest tests/python)

# The library is built before any test has to be through in time.
test-examples: $(PACKAGE) ## the programs of examples/, each run by its test
	$(call say,examples)
	@scripts/need.sh rust cc c++ pkg-config
	$(MAKE) --no-print-directory -C cbind stage
	$(PY) -m pytest examples

# ---- set-up ------------------------------------------------------------------------------------------

$(TOOLS): scripts/requirements-dev.txt
	@scripts/need.sh venv
	@echo "setting up $(VENV)"
	test -x $(PY) || "$$(scripts/find-python.sh)" -m venv $(VENV)
	$(PY) -m pip install --quiet -r scripts/requirements-dev.txt
	@touch $@

# --no-build-isolation: the pinned maturin of the environment builds, not the newest one of the day. The flags
# are those of the C library, so that what both stand on is compiled once.
$(PACKAGE): $(TOOLS) $(PACKAGE_SOURCES)
	@scripts/need.sh rust cc
	@echo "building the Python package (a minute or two the first time)"
	rm -rf build/wheel
	RUSTFLAGS="$$(scripts/rust-flags.sh)" $(PY) -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir build/wheel .
	$(PY) -m pip install --quiet --no-deps --force-reinstall build/wheel/*.whl
	@touch $@

$(CBINDGEN_STAMP):
	@scripts/need.sh rust cc
	$(CARGO) install cbindgen --version $(CBINDGEN_VERSION) --locked --root $(CBINDGEN_ROOT)
	@touch $@
