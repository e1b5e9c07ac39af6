# Relative paths only, so that a checkout may lie in a folder with spaces in its name.
.DEFAULT_GOAL := help
.PHONY: help demo check test test-long needs fuzz lint docs dist venv clean

BIN := .venv/bin
FUZZ_SECONDS ?= 60
PYTEST := $(BIN)/python -m pytest
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder
export PYTHONDONTWRITEBYTECODE := # what pytest compiles is kept: collecting takes half the time

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

demo: venv  ## index a few photos, search them, write a gallery page
	@$(BIN)/imgsearch demo

check: lint  ## lint, types and quick unit tests: no server, no TensorFlow, a minute or so
	@$(PYTEST) tests/unit -m "not long and not slow" $(PARALLEL)

ifdef ARGS
test: venv
	@$(BIN)/python tools/prepare.py --some
	@$(PYTEST) -m "not long" $(ARGS)
else
test: needs lint  ## lint and every test but the long ones (ARGS="-k word" chooses, without lint)
	@$(BIN)/python tools/prepare.py
	@$(PYTEST) -m "not long" $(PARALLEL)
endif

test-long: needs venv  ## the tests that take their time: loads, thousands of examples, restarts
	@$(BIN)/python tools/prepare.py
	@$(PYTEST) -m long $(ARGS)

needs:
	@command -v $(or $(PYTHON),python3) >/dev/null || PYTHON="$(PYTHON)" sh tools/make_venv.sh check
	@PYTHON="$(PYTHON)" $(or $(PYTHON),python3) tools/prepare.py check

fuzz: venv  ## fuzz queries and pictures, FUZZ_SECONDS=60 each (Linux, Python 3.11 and newer)
	@$(BIN)/python -m pip install --quiet -e '.[fuzz]'
	@mkdir -p .fuzz/language .fuzz/pictures
	@$(BIN)/python -m tests.fuzz.language .fuzz/language -max_total_time=$(FUZZ_SECONDS)
	@$(BIN)/python -W ignore -m tests.fuzz.pictures .fuzz/pictures -max_total_time=$(FUZZ_SECONDS)

lint: venv  ## ruff, format, types and the order of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then $(BIN)/mypy; \
		else echo "no types: the last NumPy for Python 3.10 declares others"; fi
	@$(BIN)/lint-imports --no-logo --no-cache

docs: venv  ## the site of the documentation, in site/
	@$(BIN)/python tools/cli_reference.py
	@IMGSEARCH_NOTEBOOKS=run NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo site/index.html

dist: venv  ## wheel and source archive, in dist/
	@rm -rf build dist
	@$(BIN)/python -m build --no-isolation
	@$(BIN)/python -m twine check --strict dist/*

venv: .venv/.installed  ## install everything into .venv (PYTHON=... chooses the Python)

.venv/.installed: setup.cfg pyproject.toml tools/make_venv.sh
	@PYTHON="$(PYTHON)" sh tools/make_venv.sh

clean:  ## remove .venv, caches and what the demo wrote
	@rm -rf .venv demo build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
