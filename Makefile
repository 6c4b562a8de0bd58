# Everything runs from .venv, which is made from the lock file on first use.
PYTHON ?= python3
SERVE ?= 1
PORT ?= 3000
STATE ?= state/simulated
DEMO_DATA ?= state/simulated-data
V := .venv/bin
# The one tool that is not in the lock file: it installs the lock file.
UV_VERSION := 0.13.9

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: .venv/.ready ## install everything from the lock file into .venv

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Bellwether needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(V)/python -m pip install --quiet "uv==$(UV_VERSION)"
	$(V)/uv pip install --quiet --python $(V)/python --require-hashes --compile-bytecode -r requirements.lock
	$(V)/uv pip install --quiet --python $(V)/python --no-deps --editable .
	@touch $@

demo: .venv/.ready ## simulated company, end to end, then the service (SERVE=0 stops after the report)
	$(V)/bellwether simulate $(DEMO_DATA)
	$(V)/bellwether run simulated --data $(DEMO_DATA) --state $(STATE)
ifneq ($(SERVE),0)
	$(V)/bellwether serve simulated --data $(DEMO_DATA) --state $(STATE) --port $(PORT)
endif

test: .venv/.ready ## run every test
	$(V)/pytest --numprocesses auto --dist loadfile

check: .venv/.ready ## lint, format, types, floors between the rooms
	$(V)/ruff check .
	$(V)/ruff format --check .
	$(V)/mypy
	$(V)/lint-imports

format: .venv/.ready ## put the code in shape
	$(V)/ruff check --fix .
	$(V)/ruff format .

lock: .venv/.ready ## resolve the dependencies anew into requirements.lock
	$(V)/uv pip compile --universal --python-version 3.11 --extra dev --generate-hashes --no-header --quiet --upgrade pyproject.toml --output-file requirements.lock

clean: ## remove what was made: environment, state, caches
	rm -rf .venv state build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
