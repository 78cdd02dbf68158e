# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES := $(shell nproc 2>/dev/null || echo 1)
WORKERS ?= $(shell echo $$(($(CORES) < 8 ? $(CORES) : 8)))
export OMP_NUM_THREADS ?= $(CORES)

.PHONY: help setup demo test docs lint clean

help: ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: ## make .venv once: torch, the compiled mmcv operators, the packages with all extras that the tests need
	@PYTHON="$(PYTHON)" bash tools/setup.sh $(VENV)

demo: setup ## distill a graph, a segmentation and a detection pair on embedded data; table and HTML report
	@$(BIN)/python tools/demo.py

test: setup ## lint, types and the whole test suite (real data: KD_DATA_ROOT), a process for each core, 8 at most
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

docs: setup ## build the documentation in build/site
	@$(BIN)/mkdocs build --strict

lint: setup ## format and check the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/mypy

clean: ## remove what the tools made; the environment and the wheel cache stay
	rm -rf work_dirs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
