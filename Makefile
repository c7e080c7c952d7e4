# make demo     simulate a small night, reduce it, show injected against recovered
# make test     the tests, on SQLite and on PostgreSQL; with STARLEDGER_REALDATA=full all that takes long, too
# make lint     style, types, and who imports whom
# make bench    the benchmarks, against what benchmarks/baseline.json remembers; NAMES="aperture bulk" takes some
# make mutate   do the tests notice small mistakes? 8 minutes of them
# make campaign 1,000 damaged files, by themselves and among a night, 10,000 statements, 200 kills; on both engines; SEED=7 takes others
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
NAMES ?=
SEED ?= 1
KEEP ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: venv demo test lint format bench mutate campaign docs lock clean

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
	$(BIN)/python benchmarks/compare.py --run $(NAMES)

mutate: $(READY)
	$(BIN)/python tests/mutation/mutate.py --seed 1 --number 200 --minutes 8

campaign: $(READY)
	STARLEDGER_CAMPAIGN=$(SEED):1000 STARLEDGER_KILLS=200 STARLEDGER_KILL_SEED=$(SEED) $(BIN)/python -m pytest $(PYTEST_ARGS) \
	  tests/hostile/test_hostile.py::test_the_campaign tests/hostile/test_statements.py tests/steps/test_killed.py -k 'campaign or written or moments'

docs: $(READY)
	$(BIN)/python -m starledger.docs docs

venv: $(READY)

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'starledger needs Python 3.11 or newer: make PYTHON=python3.12 ...'; exit 1; }
	@echo "Making $(VENV) (once; a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(READY)

# The exact versions that the tests and CI run with, and what each file of them hashes to, for every supported Python and system: the
# newest that pyproject.toml allows, or with KEEP=1 those of the lock that there is.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	test -n "$(KEEP)" || rm -f requirements.lock
	build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev --extra blind \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate pyproject.toml --output-file requirements.lock
	rm -rf build/lock

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache starledger-demo
