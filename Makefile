# make demo     simulate a small night, reduce it, show injected against recovered
# make test     all tests, on SQLite and on PostgreSQL
# make lint     style, types, and who imports whom
# make bench    the benchmarks
# make docs     write the pages of docs/ that follow from the code
#
# Everything runs in .venv, which is made when it is missing or older than what it is made from.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
# A file's tests share what its fixtures make. Files come in their order, the longest early, so that no process ends long after the others.
PYTEST_ARGS ?= -n $(JOBS) --dist loadfile --no-loadscope-reorder
MORE ?=

.PHONY: venv demo test lint format bench docs lock clean

demo: $(READY)
	$(BIN)/starledger demo

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(MORE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(READY)
	$(BIN)/python -m starledger.docs docs

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'starledger needs Python 3.11 or newer: make PYTHON=python3.12 ...'; exit 1; }
	@echo "Making $(VENV) (once; a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $(READY)

# The exact versions that the tests and CI run with: the newest that pyproject.toml allows.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check '.[dev,blind]'
	build/lock/bin/python -m pip freeze --all --exclude pip --exclude starledger > constraints.txt
	rm -rf build/lock

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache starledger-demo
