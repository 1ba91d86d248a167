# `make demo` and `make test` are all a newcomer needs; each makes .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-gpu fuzz check bench format docs install clean
.DEFAULT_GOAL := test

install: $(VENV)/.installed

# torch first and alone: where an index offers a CPU build of the pinned version, nothing later replaces it.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m compileall -q kdtui
	touch $@

demo: install
	$(BIN)/kdtui demo

# Processes of one torch thread each: the suite is many small networks, and some of its tests wait for other processes.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

test-gpu: install
	$(BIN)/python -m pytest -m gpu

# Every parser of what others wrote, for FUZZ_SECONDS (60) each; what fails is kept in tests/fuzz/corpus.
fuzz: install
	$(BIN)/python -m tests.fuzz

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Ratios and bytes, each taken in one run; no test depends on them.
bench: install
	$(BIN)/python -m benchmarks.cockpit
	$(BIN)/python -m benchmarks.chart
	$(BIN)/python -m benchmarks.table
	$(BIN)/python -m benchmarks.teacher_cost

docs: install
	$(BIN)/python -m tests.readme
	$(BIN)/python -m tests.tui.readme_pictures

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
