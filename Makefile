# `make demo` and `make test` are all a newcomer needs; the rest is for us.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DONE := $(VENV)/installed

.PHONY: demo test lint format docs pictures bench fuzz kills faults clean

demo: $(DONE)
	rm -rf demo
	$(BIN)/tracker demo demo

test: $(DONE)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: $(DONE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# docs/reference from the code, then the site in site/; a warning is an error.
docs: $(DONE)
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# docs/pictures from a made-up competition: terminals as SVG, the report and MLflow's page by chromium. A minute.
pictures: $(DONE)
	$(BIN)/python -m docs.make_pictures

format: $(DONE)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# All measurements, written to BENCHMARKS.md; QUICK=1 is their short form.
bench: $(DONE)
	$(BIN)/python -m bench $(if $(QUICK),--quick)

# Installed once, and again when the dependencies change; without the network an existing install is used.
$(DONE): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tracker needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(DONE)

# Damaged files of every format that is read, ten seconds each; FUZZ_FROM=100000 goes on where nobody was yet.
fuzz: $(DONE)
	FUZZ_SECONDS=$${FUZZ_SECONDS:-10} $(BIN)/python -m pytest -q tests/test_damaged_files.py tests/test_damaged_state.py

# Writers of the ledger killed with kill -9, on SQLite and PostgreSQL; make test has 80.
kills: $(DONE)
	LEDGER_KILLS=$${LEDGER_KILLS:-400} $(BIN)/python -m pytest -q tests/tracker/ledger/test_races.py -k killed

# 200 random faults over whole commands; SEED=123 repeats one, SERIES=1 takes others. A quarter of an hour.
faults: $(DONE)
	$(BIN)/python -m bench.faults $(if $(SEED),--seed $(SEED)) $(if $(SERIES),--series $(SERIES))

clean:
	rm -rf $(VENV) demo build dist site .mypy_cache .ruff_cache .pytest_cache
