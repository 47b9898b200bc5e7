# Everything runs in .venv, which `make setup` builds once and again when the pins change.
PYTHON ?= python3
RUNS ?= ../runs
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.done

.PHONY: setup demo test fuzz lint types bench results pins clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/brainvq demo --out demo --force

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

fuzz: setup
	$(BIN)/python -m benchmarks.fuzz --mutants 5000 --out results/benchmark_fuzz.json
	$(BIN)/python -m benchmarks.fuzz.bvq --mutants 10000 --out results/benchmark_fuzz_bvq.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'

results: bench
	BRAINVQ_RUNS=$${BRAINVQ_RUNS:-$(RUNS)} $(BIN)/python -m benchmarks.results

pins: setup
	{ echo "# Every version that the Makefile installs; what pyproject.toml allows is wider. Renew: make pins"; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//'; } > constraints.txt

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
