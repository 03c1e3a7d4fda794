# `make` lists the targets. Needs Python 3.11 or newer with venv, and nothing else.
# Say PYTHON=python3.13 to choose the interpreter of the environment.
SHELL  := /bin/sh
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# A stamp is as new as the lock that it was installed from, so the second `make run` starts at once.
MADE    := $(VENV)/.made
RUNTIME := $(VENV)/.runtime
DEV     := $(VENV)/.dev

PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --progress-bar off --no-input
# uv writes hashes and no address, so the lock holds whichever index or mirror pip is told to use.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python $(BIN)/python --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-strip-extras --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help run setup test abuse fuzz faults bench check format lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(RUNTIME) ## start the service (PORT=8000 and HOST=127.0.0.1 unless you or .env say otherwise)
	@exec $(BIN)/chat-api serve $(if $(HOST),--host "$(HOST)") $(if $(PORT),--port "$(PORT)")

setup: $(DEV) ## make the whole environment in .venv, for working on the project

test: $(DEV) ## run the tests (ARGS="tests/unit -x" for some of them)
	$(BIN)/python -m pytest -n 2 $(ARGS)

abuse: $(DEV) ## try every abuse on the list, also what takes minutes
	$(BIN)/python -m pytest -n 2 -m "abuse or long" $(ARGS)

fuzz: $(DEV) ## ask 100,000 generated things (ARGS="--requests 20000 --seed 7")
	@$(BIN)/python -m tests.abuse.fuzz $(ARGS)

faults: $(DEV) ## break everything that can break, and print the table (ARGS="--only F01,F14 --seeds 1")
	@$(BIN)/python -m tests.faults $(ARGS)

bench: $(DEV) ## measure the speed against floors, and print the table (ARGS="--quick" in under two minutes)
	@$(BIN)/python -m bench $(ARGS)

check: $(DEV) ## formatting, lint, the rings, types, and known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright
	$(BIN)/mypy
	@$(BIN)/python -m tests.audit

format: $(DEV) ## put the code in order
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: $(DEV) ## write both locks anew; what still fits stays (UPGRADE=1 takes the newest)
	$(COMPILE) pyproject.toml --group dev --output-file requirements-dev.txt
	$(COMPILE) pyproject.toml --group build --constraint requirements-dev.txt --output-file requirements.txt

clean: ## remove the environment and every cache
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1). Name another: make PYTHON=python3.13" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) with $$("$(PYTHON)" -V 2>&1)"
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(RUNTIME): requirements.txt pyproject.toml | $(MADE)
	@echo "Installing what the service needs, as locked in requirements.txt (well under a minute)"
	@$(PIP) --require-hashes -r requirements.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# The larger lock holds every version of the smaller one, so this stands for both.
$(DEV): requirements-dev.txt requirements.txt pyproject.toml | $(MADE)
	@echo "Installing the service, its tests and its tools, as locked in requirements-dev.txt (about a minute)"
	@$(PIP) --require-hashes -r requirements-dev.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $(RUNTIME) $@
