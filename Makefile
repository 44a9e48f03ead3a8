# Two commands do all: `make demo` and `make test`. Each makes its own environment in .venv first.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check format page clean

help:  ## Say what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(VENV)/.user: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11: install a newer one and name it, as in make PYTHON=python3.12 demo"; exit 2; }
	test -x $(RUN)python || $(PYTHON) -m venv $(VENV)
	$(RUN)python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.developer: $(VENV)/.user
	$(RUN)python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/.user  ## Map a synthetic cell, print its scores and where the report is
	$(RUN)vemosaic demo

test: $(VENV)/.developer  ## Check style and types, run the tests
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy
	OMP_NUM_THREADS=1 $(RUN)python -m pytest -m 'not slow' -n auto --dist loadfile

test-slow: $(VENV)/.developer  ## Run the slow tests
	$(RUN)python -m pytest -m slow

format: $(VENV)/.developer  ## Put the code into shape
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

page:  ## Build the explorer's page into the package (needs Node 20 or newer; nothing else here does)
	cd page && npm ci --ignore-scripts --no-audit --no-fund && npm run build

clean:  ## Remove the environment, caches and the demo's output
	rm -rf $(VENV) demo.vemosaic .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
