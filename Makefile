# Everything here needs make and a Python of at least 3.11; the rest is installed into .venv on first use.
# `make help` lists the targets.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
REPO ?= .
# Tests start many processes of their own: more of them at once than this gains little.
CORES ?= 2
MINUTES ?= 1
CODE := orchestration storage config server tests benchmarks examples

.PHONY: help demo test test-all check bench chaos lint format types lock clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do \
	  printf '%-18s %s\n' "$$name" "$$what"; done

demo: $(READY)  ## Report on the health of a Python codebase: make demo [REPO=path]
	@$(BIN)/python -m server.demo --path "$(REPO)"

test: $(READY)  ## Run the tests that take a few minutes
	$(BIN)/pytest -n $(CORES)

test-all: $(READY)  ## Run every test, the slow ones too
	$(BIN)/pytest -n $(CORES) -m "slow or not slow" --timeout 600

check: lint types test  ## Format, lint, types, import rules, tests: what a change must pass

lint: $(READY)  ## Check format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(READY)  ## Rewrite the code in its one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(READY)  ## Check types
	$(BIN)/mypy

bench: $(READY)  ## Measure tasks per second and memory, and time to the first task of a plan
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/planning.py

chaos: $(READY)  ## Kill, stop and continue real processes at random: make chaos [MINUTES=5]
	@$(BIN)/python -m tests.chaos.storm --minutes $(MINUTES)

# A lock names exact versions and nothing else: no index, host or path. The development lock holds the other one.
COMPILE := $(BIN)/pip-compile --quiet --no-header --no-annotate --strip-extras --no-emit-options \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
LIST_DEVELOPMENT := import tomllib; d = tomllib.load(open("pyproject.toml", "rb")); \
  extras = [r for e in d["project"]["optional-dependencies"].values() for r in e]; \
  print("-c ../requirements.lock", *d["project"]["dependencies"], *extras, *d["dependency-groups"]["dev"], sep="\n")

lock: $(READY)  ## Write requirements.lock and requirements-dev.lock anew from pyproject.toml
	$(COMPILE) --upgrade --output-file requirements.lock pyproject.toml
	$(BIN)/python -c '$(LIST_DEVELOPMENT)' > $(VENV)/development.in
	$(COMPILE) --upgrade --output-file requirements-dev.lock $(VENV)/development.in
	sed -i.bak -e '/^#/d' -e '/^$$/d' requirements.lock requirements-dev.lock
	rm -f requirements.lock.bak requirements-dev.lock.bak

clean:  ## Remove what was installed and generated
	rm -rf $(VENV) .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The stamp makes the second start quick: pip runs again only when a lock or pyproject.toml has changed.
$(READY): requirements-dev.lock pyproject.toml
	@python=""; \
	for name in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	  if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "No Python of at least 3.11 was found. Install one, or name it: make PYTHON=/path/to/python3.13 …" >&2; \
	  exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  echo "Creating $(VENV) with $$python …"; \
	  rm -rf $(VENV); \
	  "$$python" -m venv $(VENV) || { \
	    echo "$$python can't create a virtual environment (on Debian: apt install python3-venv)." >&2; exit 1; }; \
	fi
	@echo "Installing what requirements-dev.lock names into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@
