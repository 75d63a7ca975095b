# Everything runs in a virtual environment of its own, .venv, made on first use; nothing needs root.
#
#   make run         the demonstration: a small operating system, its machine on a VMFS volume
#   make test        lint, then the tests that take seconds
#   make test-long   the tests that take minutes
#   make lint        ruff, mypy, and the C core with warnings as errors
#   make bench       side by side with other emulators; writes bench/results.json
#   make sanitize    the guests on a core built with the address and undefined-behaviour sanitizers
#   make fuzz        random memory images and processor states, then damaged disks and volumes, for FUZZ_SECONDS each
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
DEMO := rings 'run primes &' 'run count &' 'run private &' 'run private &' ps wait \
	'run crash' 'run cheat' ps mem uptime exit

.PHONY: run test test-long lint lint-python lint-c bench sanitize fuzz docs build clean

$(READY): pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'setuptools>=68' 'cffi>=1.15'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	@touch $@

build: $(READY)
	$(BUILD_CORE)

run: $(READY)
	@machine=$$($(BIN)/python -m tools.demonstration build/demonstration.img) && if [ -t 0 ] && [ -t 1 ]; then \
		$(BIN)/ringfence run "$$machine"; \
	else \
		printf '%s\n' $(DEMO) | $(BIN)/ringfence run "$$machine" --timeout 60; \
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

SANITIZED := build/sanitized
PRELOAD = $$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)

sanitize: $(READY)
	RINGFENCE_SANITIZE=address,undefined $(BIN)/python -W ignore setup.py -q build --build-lib $(SANITIZED)
	@cd $(SANITIZED) && for guest in $$($(CURDIR)/$(BIN)/ringfence guests | cut -d' ' -f1); do \
		printf '%s\n' $(DEMO) | LD_PRELOAD="$(PRELOAD)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 \
			$(CURDIR)/$(BIN)/python -m tools.ringfence run $$guest --timeout 600 >../$$guest.log 2>&1 \
			&& echo "$$guest: clean" || { tail -n 40 ../$$guest.log; exit 1; }; \
	done

fuzz: build
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)
	$(BIN)/python tests/fuzz/run_vmdk.py --seconds $(FUZZ_SECONDS) --first $$(date +%s)000000
	$(BIN)/python tests/fuzz/run_vmfs.py --seconds $(FUZZ_SECONDS) --first $$(date +%s)000000

docs: $(READY)
	$(BIN)/python docs/build.py

clean:
	rm -rf build docs/_build .mypy_cache .pytest_cache .ruff_cache
	rm -f vmm/_core*.so
