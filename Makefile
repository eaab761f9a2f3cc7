STARTED_AT := $(shell date +%s.%N)
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo up down fmt check unit-streams unit-others test bench profile scenario-day sim integration chaos lock image image-test test-gpu bench-gpu

# That of .venv, else the first suitable one on PATH, unless another is much faster; `make PYTHON=... target` names one.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(or $(shell for p in python3 python3.12 python3.13 python3.11; do \
	$$p infra/python_choice.py 2>/dev/null && exit; done),python3)
endif
BIN := .venv/bin
GPU_PYTHON ?= $(or $(wildcard $(BIN)/python),$(PYTHON))
KEEP ?=
SCENARIO ?= headline
REPEAT ?= 1
RATE ?= 1850
MODELS ?= 12
STEPS ?= 1000000
SEED ?=
PYTEST := $(BIN)/python -m pytest -q
TALLY := $(CURDIR)/.isos/test-tally
LOCK := --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | column -t -s "$$(printf '\t')"

setup: ## Install what is missing: system packages, .venv, broker jars
	@$(PYTHON) -m infra.bootstrap

demo: setup ## The main job: real requests through real Kafka, answered and accounted for (KEEP=1 leaves the stack up)
	@ISOS_STARTED_AT=$(STARTED_AT) KEEP=$(KEEP) $(BIN)/python -m infra.demo

up: setup ## Start the local stack in the foreground
	@$(BIN)/isos up

down: ## Stop the local stack
	@$(BIN)/isos down

fmt: setup ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

check: setup ## Format, lint, types, import contracts, unit and contract tests; needs no broker
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tests.support.beside unit-streams unit-others

unit-streams:
	@$(PYTEST) -m "not broker" tests/unit/streams $(wildcard tests/contract)

unit-others:
	@$(PYTEST) -m "not broker" tests/unit --ignore=tests/unit/streams

sim: setup ## All agents' real loops in simulated worlds: tests, then a million steps (STEPS=N SEED=N)
	@$(PYTEST) -s tests/sim
	@$(BIN)/python -m tests.sim --jobs 2 --steps $(STEPS) $(if $(SEED),--seed $(SEED))

integration: setup ## Real broker and Redis (TEST_BROKER=local|container|host:port)
	@$(BIN)/python -m tests.support.node
	@$(PYTEST) --durations=10 -m broker tests/integration $(wildcard tests/contract)

chaos: setup ## Kill, freeze and restart processes under load; the ledger after each
	@$(PYTEST) -s --durations=10 tests/chaos

test: setup ## Everything: check, sim, integration, chaos; the last line counts them all
	@rm -f $(TALLY)
	@TEST_TALLY=$(TALLY) $(MAKE) --no-print-directory check
	@TEST_TALLY=$(TALLY) $(BIN)/python -m tests.support.beside sim integration
	@TEST_TALLY=$(TALLY) $(MAKE) --no-print-directory chaos
	@$(BIN)/python -m tests.support.tally $(TALLY)

bench: setup ## Measure: make bench SCENARIO=headline REPEAT=3; `python -m infra.bench --help` lists the scenarios
	@$(BIN)/python -m infra.bench $(SCENARIO) --repeat $(REPEAT)

scenario-day: setup ## A day of the control plane in a few minutes: deploy, load, drift, roll-back, faults (KEEP=1 leaves it up)
	@KEEP=$(KEEP) $(BIN)/python -m infra.day

profile: setup ## What a request costs per process, and flame graphs (RATE=1850 MODELS=12)
	@$(BIN)/python -m infra.bench.profile --rate $(RATE) --models $(MODELS)

test-gpu: ## The executor's core on a GPU; needs a Python with the wheels, no set-up, and fails without a GPU
	@$(GPU_PYTHON) -m pytest -q -c tests/gpu/pytest.ini --confcutdir=tests/gpu tests/gpu

bench-gpu: ## Measure the executor's core on a GPU; fails without one
	@$(GPU_PYTHON) -m infra.bench.gpu

image: ## Build the container image (needs docker)
	docker build -f infra/Containerfile -t ml-isos:0.1.0 .

image-test: setup ## Build the image and run compose.yaml with it; not part of `make test` (needs docker)
	@$(PYTEST) -s tests/image

lock: ## Renew requirements.txt from requirements.in, and the image's two locks out of it (needs uv)
	uv pip compile $(LOCK) requirements.in -o requirements.txt
	uv pip compile $(LOCK) --no-annotate -c requirements.txt --extra server pyproject.toml \
		-o infra/locks/image.txt
	printf 'hatchling\neditables\n' | uv pip compile $(LOCK) --no-annotate -c requirements.txt - -o infra/locks/build.txt
