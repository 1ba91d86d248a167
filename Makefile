# `make demo` and `make test` are all a newcomer needs; each makes .venv when it is missing. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
# What `make test-oldest` runs without TESTS: where kdtui touches its dependencies. TESTS=tests runs everything.
OLDEST_TESTS := tests/profile tests/store tests/cli/test_app.py tests/engine/data tests/engine/export tests/engine/test_models.py

.PHONY: help install demo test coverage test-slow test-gpu test-oldest fuzz check bench format docs clean
.DEFAULT_GOAL := test

help: ## List the targets.
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: $(VENV)/.installed ## Make .venv with the versions of constraints.txt.

# torch first and alone: where an index offers a CPU build of the pinned version, nothing later replaces it.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m compileall -q kdtui
	touch $@

demo: install ## Train teacher, baseline and distilled student on synthetic images (minutes).
	$(BIN)/kdtui demo

# Processes of one torch thread each: the suite is many small networks, and many of its tests wait for other processes
# or for a screen, so there are more of them than a small machine has cores.
test: install ## Run the fast tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

# The processes that tests start are measured too. A test that fails does not keep the report back.
coverage: install ## Print branch coverage of each room by the fast tests, or by TESTS.
	rm -f .coverage .coverage.*
	-OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(TESTS)
	$(BIN)/coverage combine -q; rm -f .coverage.*
	$(BIN)/coverage json -q -o - | $(BIN)/python -m tests.rooms

test-slow: install ## Run the tests marked slow.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

test-gpu: install ## Run the tests that need a GPU.
	$(BIN)/python -m pytest -m gpu

# An environment of its own; what newer packages deprecate in older ones is no failure.
test-oldest: ## Run a part of the tests, or TESTS, with the oldest versions that pyproject.toml allows.
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(PYTHON) tests/oldest.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt torch torchvision
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -W default::DeprecationWarning -W default::FutureWarning $(or $(TESTS),$(OLDEST_TESTS))

# Every parser of what others wrote, for FUZZ_SECONDS (60) each; what fails is kept in tests/fuzz/corpus.
fuzz: install ## Try broken input on every parser.
	$(BIN)/python -m tests.fuzz

check: install ## Run ruff, mypy and the import contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Ratios and bytes, each taken in one run; no test depends on them.
bench: install ## Measure the cockpit, its chart and table, the start of a run, and what teacher, sample and epoch cost.
	$(BIN)/python -m benchmarks.cockpit
	$(BIN)/python -m benchmarks.chart
	$(BIN)/python -m benchmarks.table
	$(BIN)/python -m benchmarks.teacher_cost
	$(BIN)/python -m benchmarks.data
	$(BIN)/python -m benchmarks.epoch

docs: install ## Make the generated parts of docs/ and the pictures.
	$(BIN)/python -m tests.docs
	$(BIN)/python -m tests.tui.readme_pictures

format: install ## Fix and format with ruff.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove environments and caches.
	rm -rf $(VENV) $(OLDEST) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
