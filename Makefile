# `make demo` and `make test` need Python 3.11 or later and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OPTIONS ?=
# Two at a time, each file in one process: most tests wait for a server.
PYTEST_OPTIONS ?= --numprocesses 2 --dist loadfile

.PHONY: demo test lint format generated compiled broker clean

demo: $(VENV)/installed
	$(BIN)/pricemaker demo $(DEMO_OPTIONS)

test: lint
	$(BIN)/pytest $(PYTEST_OPTIONS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Writes what is generated from the code: schemas/generated/, docs/cli.md, docs/configuration.md.
generated: $(VENV)/installed-dev
	$(BIN)/python -m streams.generated --write

# The engine compiled, to be started as build/compiled/pricemaker; needs a C compiler.
compiled: $(VENV)/installed-dev
	$(BIN)/python infra/compiled/build.py

broker:
	infra/kafka/broker start

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Each stamp is older than pyproject.toml exactly when the dependencies may have changed.
$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@ $(VENV)/installed

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
