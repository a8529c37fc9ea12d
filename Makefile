# `make` lists the targets. All but `lock` and `clean` do the set-up first, into .venv; done once, it costs nothing.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
READY := .venv/.ready
# The first of these that runs: a name on the path may be a shim for a version that is not installed.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.10 python3,\
	$(if $(shell $(name) -c 'import sys, venv; print(sys.version_info >= (3, 10))' 2>/dev/null | grep True),$(name))))
POETRY ?= poetry
WORKERS ?= auto
# They run on current libraries and declare old ones, so their own pins are left aside.
WITHOUT_PINS := imitation==1.0.1 seals==0.2.1 huggingface_sb3==3.0 d3rlpy==2.8.1

.PHONY: help install demo check format test test-learning bench bench-learning bench-gpu lock clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

install: $(READY)  ## Put the library, all extras and the development tools into .venv.

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'Python 3.10 or newer, with its venv module, is needed.' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[all]' --group dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(WITHOUT_PINS)
	@touch $@

demo: install  ## Train PPO on CartPole-v1, evaluate, record, save, reload; print where everything is.
	$(BIN)/python exploration/demo.py

check: install  ## Formatting, lint, types, directions of imports.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Format, and mend what the linter can mend.
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

test: install  ## All tests but the learning ones. WORKERS=0 runs them in one process.
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

test-learning: install  ## Small tasks must be solved; takes minutes.
	$(BIN)/python -m pytest -m learning

bench: install  ## Side-by-side ratios, written to benchmarks/results/*.json.
	$(BIN)/python -m benchmarks.training_throughput
	$(BIN)/python -m benchmarks.evaluation_throughput
	$(BIN)/python -m benchmarks.script_wall_time
	$(BIN)/python -m benchmarks.episode_data
	$(BIN)/python -m benchmarks.behavioural_cloning
	$(BIN)/python -m benchmarks.connector_cost
	$(BIN)/python -m benchmarks.hub_upload_memory
	$(BIN)/python -m benchmarks.ppo_throughput
	$(BIN)/python -m benchmarks.ppo_memory
	$(BIN)/python -m benchmarks.episode_trainer
	$(BIN)/python -m benchmarks.off_policy_throughput
	$(BIN)/python -m benchmarks.hindsight_sampling
	$(BIN)/python -m benchmarks.replay_memory
	$(BIN)/python -m benchmarks.unity_exchange

bench-learning: install  ## Our PPO beside Stable-Baselines3's on five tasks; goals in a maze and for a robot. Takes hours.
	$(BIN)/python -m benchmarks.ppo_learning
	$(BIN)/python -m benchmarks.goal_learning --task maze-hindsight
	$(BIN)/python -m benchmarks.goal_learning --task maze-mega
	MUJOCO_GL=egl $(BIN)/python -m benchmarks.goal_learning --task fetch-push

bench-gpu: install  ## What needs a GPU; without one it says so.
	$(BIN)/python -m benchmarks.ppo_gpu
	$(BIN)/python -m benchmarks.off_policy_gpu

lock: ## Resolve again: poetry.lock and constraints.txt. Needs Poetry 2.2+ with poetry-plugin-export.
	$(POETRY) lock --no-interaction
	$(POETRY) export --no-interaction --format constraints.txt --without-hashes \
		--all-groups --all-extras --output constraints.txt

clean:  ## Remove what the other targets made, .venv included.
	rm -rf .venv benchmarks/.rl8-venv dist build htmlcov .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
