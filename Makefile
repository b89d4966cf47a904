# Every target sets up .venv itself. Choose the interpreter with PYTHON=python3.12, and the number
# of parallel test processes with JOBS=4.
PYTHON ?= python3
JOBS ?= auto

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test lint format types bench clean

help:
	@echo "make demo    run the three-point example and write its files to demo/"
	@echo "make test    run the tests"
	@echo "make lint    check style and formatting"
	@echo "make format  repair style and formatting where that is safe"
	@echo "make types   check types"
	@echo "make bench   run the benchmarks"
	@echo "make clean   remove .venv and all that these targets made"

demo: .venv/.installed
	$(BIN)/flowsim run three-points --m 1000 --scale 1e-6 --output demo

test: .venv/.installed
	$(BIN)/python -m pytest -n $(JOBS)

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/.installed-dev
	$(BIN)/pyright

bench: .venv/.installed-bench
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/alignment.py
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/agreement.py
	$(BIN)/python benchmarks/two_level.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/descent.py
	$(BIN)/python benchmarks/threshold.py

clean:
	rm -rf .venv demo build dist .numba_cache .jax_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "flowsim needs Python 3.11 or later: say make PYTHON=python3.11, or the like")'
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing flowsim and what it needs into .venv ..."
	$(PIP) -e '.[test]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) -e '.[test,dev]'
	@touch $@

.venv/.installed-bench: .venv/.installed
	@echo "Installing what the benchmarks compare with into .venv ..."
	$(PIP) -e '.[test,bench]' || echo "Not all could be installed: the benchmarks say what is missing."
	@touch $@
