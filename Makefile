# Every target works on a fresh machine: it needs Python 3.11+, make and the package registries, nothing else.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CHDB := .bench-chdb
UV_VERSION := 0.13.8
# A system starts a dozen Python processes: without compiled files each of them takes seconds longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup up demo notebook test test-long lint format bench bench-ingress bench-audience bench-receipts \
  bench-reports bench-engine bench-fanout bench-million bench-priority bench-freshness bench-gateway bench-events bench-isolation bench-automation lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || { echo "[1/3] virtual environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "[2/3] uv $(UV_VERSION)"; $(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	@echo "[3/3] packages, each checked against its hash in requirements.lock"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --compile-bytecode --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install -q --no-deps -e .
	@touch $@

up: $(READY)
	$(BIN)/notify up

demo: $(READY)
	$(BIN)/notify demo

# Opens in a browser; NOTIFY_HOME says whose reports. Nothing is written but the notebook itself, if you change it.
notebook: $(READY)
	$(BIN)/marimo edit notebooks/sends.py

# Four at a time, as many of them wait; one file's tests one after another, because they share what they start. Files
# come in the order of tests/conftest.py.
test: $(READY)
	$(BIN)/pytest -m "not long" -n 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Hours on two cores: twenty rounds of kills of each kind, and fuzzing of every route. A part of it: PYTEST_ARGS="-m long tests/core".
test-long: $(READY)
	$(BIN)/pytest $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: bench-ingress bench-audience bench-receipts bench-reports bench-engine bench-fanout bench-million bench-priority \
  bench-freshness bench-gateway bench-events bench-isolation bench-automation

bench-ingress bench-audience bench-reports bench-engine bench-fanout bench-million bench-priority bench-freshness \
  bench-gateway bench-events bench-isolation: bench-%: $(READY)
	$(BIN)/python -m benchmarks.$*

# What this one is compared with is no dependency: it lies in a folder of its own, from the first time on.
bench-receipts: $(READY) $(CHDB)/.ready
	$(BIN)/python -m benchmarks.receipts --chdb $(CHDB) $(BENCH_ARGS)

$(CHDB)/.ready: benchmarks/chdb.txt | $(READY)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install -q --no-deps --require-hashes --target $(CHDB) -r benchmarks/chdb.txt
	@touch $@

bench-automation: $(READY)
	$(BIN)/python -m benchmarks.automation_report

lock: $(READY)
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --group pyproject.toml:dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) $(CHDB) .mypy_cache .ruff_cache .pytest_cache .hypothesis
