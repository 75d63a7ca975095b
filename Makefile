# Everything runs in a virtual environment of its own, .venv, made on first use; nothing needs root.
#
#   make run         the demonstration: a small operating system on the monitor
#   make test        lint, then the tests that take seconds
#   make test-long   the tests that take minutes
#   make lint        ruff, mypy, and the C core with warnings as errors
#   make bench       side by side with other emulators; writes bench/results.json
#   make fuzz        random memory images and processor states for FUZZ_SECONDS
#   make docs        docs/ as HTML in docs/_build
#   make build       rebuild the C core in place after a change

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FUZZ_SECONDS ?= 600
PYTEST := $(BIN)/python -m pytest
STRICT := RINGFENCE_WERROR=1
BUILD_CORE := $(BIN)/python -W ignore setup.py -q build_ext --inplace

# What is typed into minios when nobody is there to type.
DEMO := help rings ps mem 'run' uptime exit

.PHONY: run test test-long lint lint-python lint-c bench fuzz docs build clean

$(READY): pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'setuptools>=68' 'cffi>=1.15'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	@touch $@

build: $(READY)
	$(BUILD_CORE)

run: $(READY)
	@if [ -t 0 ] && [ -t 1 ]; then \
		$(BIN)/ringfence run minios; \
	else \
		printf '%s\n' $(DEMO) | $(BIN)/ringfence run minios --timeout 60; \
	fi

lint-python: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

lint-c: $(READY)
	$(STRICT) $(BUILD_CORE)

lint: lint-python lint-c

test: lint
	$(PYTEST) -m 'not long'

test-long: lint-c
	$(PYTEST)

bench: build
	$(BIN)/python -m bench

fuzz: build
	$(BIN)/python tests/conformance/fuzz.py --seconds $(FUZZ_SECONDS)

docs: $(READY)
	$(BIN)/python docs/build.py

clean:
	rm -rf build docs/_build .mypy_cache .pytest_cache .ruff_cache
	rm -f vmm/_core*.so
