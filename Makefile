# Two commands on a fresh machine: `make demo` and `make test`. Both set everything up first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= conf/recipes/text_to_sql_demo.yaml

FUZZ ?= 20000
# One more than there are cores: tests of servers and flows wait a quarter of their time.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.PHONY: demo test test-fast test-gpu fuzz faults check bench base install clean

demo: $(VENV)/installed ## retrain the embedded model, gate it, register it
	$(BIN)/retune run $(RECIPE)

test: $(VENV)/installed ## every test that this machine can run
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/installed ## the tests that take seconds
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow and not service"

test-gpu: $(VENV)/installed ## the tests that need a GPU
	RETUNE_TEST_GPU=1 $(BIN)/python -m pytest -m gpu

fuzz: $(VENV)/installed ## FUZZ damaged inputs of each kind that retune reads; KIND="rows or pages" for some
	RETUNE_FUZZ_INPUTS=$(FUZZ) $(BIN)/python -m pytest -q tests/fuzz -k "$(KIND)"

faults: $(VENV)/installed ## all that can go wrong, a hundred kills, the store in any order; 40 minutes on two busy cores
	RETUNE_FAULTS=all $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/faults

check: $(VENV)/installed ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks/*.py benchmarks/*/*.py
	$(BIN)/lint-imports

bench: $(VENV)/installed ## speed beside the plain ways to do the same; BENCH="generation merge" for some
	$(BIN)/python -m benchmarks.bench $(BENCH)

base: $(VENV)/installed ## rebuild the embedded data, tokenizer and base from the generator
	$(BIN)/python -m generator

install: $(VENV)/installed ## only set up

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean: ## remove the environment and all artifacts of this checkout
	rm -rf $(VENV) .retune
