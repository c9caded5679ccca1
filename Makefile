# `make demo`: from a fresh clone to painted neurons.   `make test`: the whole check.   `make torture`: the long one.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Most of torch is never imported; what is, Python compiles itself.
PIP_INSTALL := -m pip install --quiet --no-compile
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-oldest test-fallback test-triton torture lint dist demo-run clean

demo: $(VENV)/installed
	$(BIN)/charrnn train stdlib --run demo --overwrite --minutes 4
	$(BIN)/charrnn sample demo --prompt "def " --length 400 --temperature 0.7
	$(BIN)/charrnn inspect neurons demo

test: $(VENV)/installed-dev lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# The same with the oldest versions of the light dependencies that are allowed.
test-oldest: $(VENV)-oldest/installed
	$(VENV)-oldest/bin/python -m pytest --numprocesses 2 --dist loadfile

# The same without the native library, as where there was no compiler: torch and numpy do everything.
test-fallback: $(VENV)/installed-dev
	CHARRNN_NATIVE=0 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# The long forms of docs/reliability.md. One of them: .venv/bin/python -m tests.torture locks --count 20 --seed 1
torture: $(VENV)/installed-dev
	$(BIN)/python -m tests.torture

# Triton is a download of 200 MB that a machine without a GPU needs for these tests alone.
test-triton: $(VENV)/installed-dev
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[triton]'
	$(BIN)/python -m pytest tests/test_persistent.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The native library is compiled on the way, so its sources are what is installed, too.
SOURCES := pyproject.toml native_build.py $(wildcard charrnn/native/*.py charrnn/native/source/*)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "charrnn needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) --editable .
	touch $@

$(VENV)/installed-dev: $(SOURCES) constraints.txt | $(VENV)/bin/python
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[dev]'
	touch $(VENV)/installed $@

$(VENV)-oldest/installed: $(SOURCES) constraints-oldest.txt
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python $(PIP_INSTALL) --constraint constraints-oldest.txt --editable '.[dev]'
	touch $@

# A wheel and an sdist of the last commit in dist/: the same bytes from any folder at any time (shown on one machine, with one compiler).
dist: $(VENV)/installed-dev
	rm -rf dist
	$(BIN)/python -m tests.torture.supply dist

clean:
	rm -rf $(VENV) $(VENV)-oldest dist build .pytest_cache .ruff_cache

# The run that comes with the program: trained, inspected and recorded anew. About 15 minutes.
demo-run: $(VENV)/installed
	$(BIN)/python benchmarks/demo_run.py
