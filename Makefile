# Everything a person or CI runs. `make` alone lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
PROTOS := $(wildcard protos/tandem/v1/*.proto)
PROTOC := $(BIN)/python -m grpc_tools.protoc -I.
CODE := cli protos serving training features graph models tests

# Nothing here may wait for a hub or report home: models come from packages, data from the workspace.
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export VLLM_NO_USAGE_STATS := 1
export DO_NOT_TRACK := 1
export RAY_USAGE_STATS_ENABLED := 0
export FEAST_USAGE := False
export TOKENIZERS_PARALLELISM := false
export PYTHON TANDEM_LOCK UPGRADE

.PHONY: help setup demo test bench lint format types imports proto proto-check lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## create .venv from the lock for this machine (nothing to do: under a second)
	@requirements/install.sh

demo: setup ## build the example workspace, serve it and ask it; ONCE=1 stops after the tour
	@exec $(BIN)/tandem demo $(if $(ONCE),--once)

# Two processes, and who waits for work does not spin for long: on two cores four threads that do take many times as long.
test: setup lint proto-check types imports ## everything CI checks; ARGS="-k name" goes to pytest (one process)
	@GOMP_SPINCOUNT=10000 $(BIN)/python -m pytest $(if $(ARGS),$(ARGS),--numprocesses 2)

bench: setup ## measure the service; ARGS go to tandem bench
	@exec $(BIN)/tandem bench $(ARGS)

lint: setup ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup ## ruff: repair what it can, then format
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

types: setup ## mypy
	@$(BIN)/mypy $(CODE)

imports: setup ## import-linter: who may import whom
	@$(BIN)/lint-imports --no-logo --no-cache

proto: setup ## regenerate the modules of protos/
	@$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

proto-check: setup ## fail when the generated modules are older than the .proto files
	@new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; \
	$(PROTOC) --python_out="$$new" --pyi_out="$$new" --grpc_python_out="$$new" $(PROTOS); \
	diff -rq -x '*.proto' -x __init__.py -x __pycache__ protos/tandem/v1 "$$new/protos/tandem/v1" >&2 || \
	{ echo "error: the generated modules above do not match protos/tandem/v1/*.proto; run: make proto" >&2; exit 1; }

lock: setup ## rewrite requirements/cpu.txt and gpu.txt from pyproject.toml; UPGRADE=1 takes the newest
	@requirements/compile.sh

clean: ## remove caches and build output; .venv and workspaces stay
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find $(wildcard $(CODE)) -name __pycache__ -type d -prune -exec rm -rf {} +
