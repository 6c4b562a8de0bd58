# Everything runs from .venv, which is made from the lock file on first use.
PYTHON ?= python3
SERVE ?= 1
PORT ?= 3000
BENCH ?= build/bench
STATE ?= state/simulated
# Weeks of backfilled scores in the demo, so that pages show what changed.
WEEKS ?= 4
DEMO_DATA ?= state/simulated-data
V := .venv/bin
# The one tool that is not in the lock file: it installs the lock file.
UV_VERSION := 0.13.9

.DEFAULT_GOAL := help
.PHONY: help setup demo sample notebooks strip test docs bench spark check format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

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
	$(V)/bellwether run simulated --data $(DEMO_DATA) --state $(STATE) --weeks $(WEEKS)
ifneq ($(SERVE),0)
	$(V)/bellwether serve simulated --data $(DEMO_DATA) --state $(STATE) --port $(PORT)
endif

sample: ## the committed sample report, written again from the simulated company
	$(MAKE) demo SERVE=0
	cp $(STATE)/reports/latest.html .github/sample-report.html

notebooks: .venv/.ready ## the committed notebooks, executed on the simulated company, with their charts
	$(MAKE) demo SERVE=0
	BELLWETHER_STATE=$(abspath $(STATE)) BELLWETHER_DATA=$(abspath $(DEMO_DATA)) $(V)/jupyter-execute --inplace notebooks/*.ipynb
	$(MAKE) strip

strip: .venv/.ready ## remove volatile metadata from the notebooks
	$(V)/nbstripout --keep-output --keep-count --extra-keys "metadata.language_info.version cell.metadata.execution" notebooks/*.ipynb

# Longest files first (tests/conftest.py). Tests start many processes, which find bytecode ready.
test: .venv/.ready ## run every test
	env -u PYTHONDONTWRITEBYTECODE $(V)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

docs: .venv/.ready ## the documentation site in build/site, its reference generated from the code
	NO_MKDOCS_2_WARNING=1 $(V)/python -m mkdocs build --strict

.venv/.extra: .venv/.ready requirements-extra.lock
	$(V)/uv pip install --quiet --python $(V)/python --require-hashes --no-deps --compile-bytecode -r requirements-extra.lock
	@touch $@

bench: .venv/.extra ## speed compared with peers, one table and JSON in BENCH (ONLY=explain,service… DATA=public data)
	$(V)/python -m tests.benchmarks --output $(BENCH) $(if $(ONLY),--only $(ONLY)) $(if $(DATA),--data $(DATA))

spark: .venv/.extra ## the features on Spark, equal to DuckDB's (needs Java 17)
	$(V)/pytest -m spark

check: .venv/.ready ## lint, format, types, import contracts
	$(V)/ruff check .
	$(V)/ruff format --check .
	$(V)/mypy
	$(V)/mypy docs/hooks/*.py
	$(V)/lint-imports

format: .venv/.ready ## format the code
	$(V)/ruff check --fix .
	$(V)/ruff format .

lock: .venv/.ready ## resolve new dependencies into requirements.lock (UPGRADE=--upgrade renews all)
	$(V)/uv pip compile --universal --python-version 3.11 --extra dev --generate-hashes --no-header --quiet $(UPGRADE) pyproject.toml --output-file requirements.lock
	$(V)/uv pip compile --universal --python-version 3.11 --no-deps --generate-hashes --no-header --quiet $(UPGRADE) requirements-extra.in --output-file requirements-extra.lock

clean: ## remove environment, state, build and caches
	rm -rf .venv state build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
