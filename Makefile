# SPDX-License-Identifier: Apache-2.0
# `make` lists the targets. Each target is a short form of commands that can also be run directly.

# The distribution's own Python, not a version manager's: an installed cdi-gen runs on it.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
PREFIX ?= /usr/local
EXAMPLE := specs/golden/h200-580-1gpu/inventory.json

# PYTEST: further options of pytest, for all targets that run tests: PYTEST="-k versions".
TESTS    := $(BIN)/python -m pytest
# One process per core, each with its share of the tests; an idle process takes tests from another.
PARALLEL := --numprocesses $(or $(WORKERS),auto) --maxprocesses 8 --dist worksteal
ANYWHERE := not host and not engine and not gpu and not network
# Tests that run the code of the pure packages in their own process.
PURE     := tests/unit tests/golden tests/property $(wildcard tests/runtime/test_request*.py) \
    tests/runtime/test_toml.py tests/hook/test_elf.py tests/hook/test_requirement.py tests/hook/ldsocache

# pytest keeps the bytecode of rewritten tests; compiling them again takes longer than many tests.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help run quick check test test-engines test-kubernetes coverage lint types nightly fuzz mutants bench golden build deb bundle image lock protocols manifests docs install uninstall man clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Programs that are killed or fail at many moments, and servers: a third of the time of `check`, for which
# it is too long. `test` runs them.
THOROUGH := tests/kubernetes tests/attack/test_faults.py tests/attack/test_engine_configuration_faults.py \
            tests/attack/test_memory.py tests/cli/test_interrupted.py tests/refresh/test_faults.py tests/refresh/test_system_calls.py

run: $(VENV)/run ## make the environment and print the CDI spec of this host
	@tools/run $(BIN)/cdi-gen $(EXAMPLE)

quick: $(VENV)/test ## unit tests, architecture, golden specs: seconds, in one process
	$(TESTS) --quiet -m "$(ANYWHERE)" tests/unit tests/architecture tests/golden $(PYTEST)

check: $(VENV)/test lint types ## lint, types and the tests that need no root, no network and no engine
	$(TESTS) --quiet $(PARALLEL) -m "$(ANYWHERE)" $(THOROUGH:%=--ignore=%) $(PYTEST)

test: $(VENV)/test ## run all tests; as root, install their requirements first. REQUIRE=1: a skip is a failure
	@tools/test-packages
	$(TESTS) $(PARALLEL) $(PYTEST)

coverage: $(VENV)/test ## branch coverage of the pure packages; fails below the threshold in pyproject.toml
	@mkdir -p out
	$(BIN)/coverage run -m pytest --quiet -m "$(ANYWHERE)" $(PURE) $(PYTEST)
	$(BIN)/coverage report

lint: $(VENV)/test ## ruff: rules and format; codespell
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell

types: $(VENV)/test ## mypy, strict: library, hooks, tests and tools
	$(BIN)/mypy

test-engines: $(VENV)/test ## every engine and every way to request a GPU; writes docs/engines.md
	@tools/test-packages
	$(TESTS) -m engines --update-engines tests/engine/matrix tests/metrics/test_engines.py $(PYTEST)

test-kubernetes: $(VENV)/test ## a real kubelet and a real cluster, built for an hour at first; writes docs/cluster-tests.md
	@tools/test-packages
	$(BIN)/python -m tests.lab.kubernetes
	$(TESTS) $(PARALLEL) -m kubernetes --update-kubernetes tests/kubernetes $(PYTEST)

nightly: $(VENV)/test ## long runs: races, a fault in every system call (an hour); the page of a fleet in Chromium
	@tools/test-packages chromium-headless-shell
	$(TESTS) $(PARALLEL) -m "nightly or property" --hypothesis-profile=night $(PYTEST)

fuzz: ## ten minutes of a fuzzer on a parser of the hook: FUZZ=read-elf
	$(PYTHON) -m venv $(VENV)/fuzz
	$(VENV)/fuzz/bin/pip install --quiet atheris
	PYTHONPATH=.:hooks:specs $(VENV)/fuzz/bin/python -m tests.fuzz $(or $(FUZZ),read-elf) -max_total_time=600

mutants: $(VENV)/test ## changes in a module that no test detects: MODULE=store/writing
	$(BIN)/python -m tests.mutation $(or $(MODULE),resolve)

bench: $(VENV)/test ## the table of times and memory, with nvidia-ctk if it is on PATH
	@tools/test-packages
	$(BIN)/python -m tests.bench $(BENCH)

golden: $(VENV)/test ## rewrite specs/golden from the fake hosts, and show what changed
	$(TESTS) -q tests/golden tests/architecture tests/metrics/test_monitoring_files.py --update-golden
	git --no-pager diff --stat -- specs/golden tests/golden docs deploy/monitoring

build: $(VENV)/test ## wheel and sdist in dist/
	$(BIN)/python -m build --no-isolation

deb: $(VENV)/test ## the package for Debian and Ubuntu of the commit, in dist/; needs debhelper and dh-python
	PYTHONPATH=hooks $(BIN)/python -m tools.deb --output dist

bundle: $(VENV)/test ## hook, shim and prestart hook with an interpreter, for hosts without Python; archives in dist/
	PYTHONPATH=hooks $(BIN)/python -m tools.bundle --output dist $(ARCH)

image: $(VENV)/test ## the OCI image of the commit, an archive in dist/. ARCH=aarch64: another architecture
	PYTHONPATH=hooks $(BIN)/python -m tools.image --output dist $(ARCH)

lock: $(VENV)/test ## pin the newest dependencies in requirements/
	tools/lock $(BIN)

protocols: ## generate the messages of the protocols of Kubernetes and NRI from their .proto files
	tools/protocols "$(PYTHON)" $(VENV)/protocols

manifests: $(VENV)/test ## write the files of deploy/kustomize that are the Helm chart's; needs Go
	$(TESTS) -q -m kubernetes tests/kubernetes/test_chart.py -k files_of_kustomize --update-golden

docs: $(VENV)/docs ## the documentation as a site, in out/site; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -j auto -c docs/site -d out/site-cache . out/site

man: $(VENV)/test ## man pages from the commands, in out/man
	$(BIN)/python tools/man.py out/man

install: ## install to PREFIX (/usr/local): program, hook, systemd unit, man pages, completions. EXTRAS='kubernetes metrics'
	@tools/install "$(PYTHON)" "$(PREFIX)" "$(DESTDIR)" "$(EXTRAS)"

uninstall: ## remove the files that `make install` installed
	@tools/uninstall "$(PREFIX)" "$(DESTDIR)"

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) dist out .mypy_cache .pytest_cache .ruff_cache .hypothesis

# run: the requirements of cdi-gen. test: also those of the tests and linters.
$(VENV)/%: requirements/%.txt pyproject.toml
	@tools/environment "$(PYTHON)" $(VENV) requirements/$*.txt
	@touch $@
