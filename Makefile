# Two commands on a fresh machine: `make quickstart` and `make test`. Each makes .venv from the lock when it is missing.

PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
	&& { echo "$$p"; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: setup quickstart test test-slow check format lock

setup: $(READY)

$(READY): requirements.lock
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or 3.12 with venv is needed; name it by PYTHON=/path/to/python" >&2; exit 2; }
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

quickstart: $(READY)
	$(BIN)/recsys quickstart

test: $(READY)
	$(BIN)/python -m pytest --numprocesses=4 --dist=loadfile --no-loadscope-reorder

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow -s

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Needs uv. Keeps what is locked unless UPGRADE=--upgrade.
lock:
	uv pip compile pyproject.toml --extra beam --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --quiet --output-file requirements.lock $(UPGRADE)
