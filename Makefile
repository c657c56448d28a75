# Two commands: `make fit` trains, `make test` tests. Each sets up what it needs first.

SHELL := /bin/bash
.DEFAULT_GOAL := help

export PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/ready
BIN := $(VENV)/bin
TRL_VENV := .venv-trl
TRL_READY := $(TRL_VENV)/ready

.PHONY: help setup fit test check soak bench bench-env

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## install everything into .venv (the other targets see to it themselves)

# torch comes first and alone: it decides between CPU and CUDA, and torchvision must not decide for it.
$(READY): setup.cfg pyproject.toml constraints.txt .ci/vllm
	@echo "Setting up $(VENV) with $$($(PYTHON) --version): once, a few minutes"
	@.ci/install $(VENV) 1/5 torch -c constraints.txt
	@.ci/install $(VENV) 2/5 torchvision --no-deps -c constraints.txt
	@.ci/install $(VENV) 3/5 -e ".[dev]" -c constraints.txt
	@.ci/vllm $(VENV) 4/5
	@.ci/install $(VENV) 5/5 latex2sympy2_extended==1.10.2 --no-deps
	@$(BIN)/python -c "import lightning_r1v3, torchvision"
	@touch $@

fit: $(READY)  ## the recipe on the mini world: SFT, GRPO, connector-only tuning, and a table; 10 minutes on a CPU
	@for stage in sft grpo connector_tune; do $(BIN)/lightning-r1v3 fit -c configs/$$stage.yaml || exit 1; done
	@$(BIN)/python -m lightning_r1v3.modules.stage_table

test: $(READY)  ## all tests but the long ones
	@$(BIN)/python -m pytest -m "not soak" --junitxml=runs/test/junit.xml
	@echo "Results: runs/test/junit.xml"

check: $(READY)  ## ruff, mypy --strict and import-linter
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

soak: $(READY)  ## the long tests: many seeds, many kills
	@$(BIN)/python -m pytest -m soak --junitxml=runs/soak/junit.xml
	@echo "Results: runs/soak/junit.xml"

bench: $(READY) $(TRL_READY)  ## the benchmarks, one JSON line each
	@for name in fused_pass sft_vs_trl grpo_vs_trl grpo_step_cost callback_cost weight_sync rollout_overlap; do $(BIN)/python tests/benchmarks/$$name.py || exit 1; done
	@echo "Results: tests/benchmarks/results/"

bench-env: $(TRL_READY)  ## install the peer that the benchmarks measure against into .venv-trl

$(TRL_READY): tests/benchmarks/peers/requirements.txt constraints.txt
	@.ci/install $(TRL_VENV) 1/3 torch -c constraints.txt
	@.ci/install $(TRL_VENV) 2/3 torchvision --no-deps -c constraints.txt
	@.ci/install $(TRL_VENV) 3/3 -r tests/benchmarks/peers/requirements.txt -c constraints.txt
	@touch $@
