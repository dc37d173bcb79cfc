.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
HARNESS := .venv/bin/harness
SCENARIO ?= sentinel-primary-crash
TIMES ?= 10
BUDGET ?= 30m

.PHONY: help setup demo test test-containers test-compose lint ruff mypy bandit imports bench mutants repeat catalogue open-webui deployments clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing (idempotent): .venv, redis-server, nginx, postgresql, Toxiproxy
	@scripts/setup

demo: setup ## kill a Sentinel primary under load, judge what happened, write a report
	@$(HARNESS) run $(SCENARIO)

test: lint ## lint, types, unit and integration tests, the fast mutants
	@$(PYTHON) -m pytest

test-containers: setup ## the tests of --host containers; installs and starts an engine if need be
	@scripts/test-containers

test-compose: setup ## start the projects of deploy/compose from local images, run a scenario on each
	@COMPOSE=wanted scripts/setup
	@TESTS=compose scripts/test-containers

lint: setup ## ruff, mypy, bandit and the direction of imports, side by side
	@$(MAKE) --no-print-directory --keep-going -j2 ruff mypy bandit imports

ruff:
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check --quiet .

mypy:
	@.venv/bin/mypy

bandit:
	@.venv/bin/bandit --quiet --recursive --configfile pyproject.toml runtime harness

imports:
	@.venv/bin/lint-imports --no-cache --no-logo

bench: setup ## benchmarks, compared with the committed baselines
	@$(PYTHON) -m pytest tests/benchmarks -o testpaths= --benchmark-only \
		--benchmark-storage=file://reports/baselines --benchmark-compare --benchmark-sort=name \
		-W ignore::pytest_benchmark.logger.PytestBenchmarkWarning

mutants: setup ## every deliberately broken runtime must be caught (MUTANT_TIMES=10 repeats)
	@$(PYTHON) -m pytest tests/mutants --mutants=all

repeat: setup ## run all scenarios TIMES times [HOST=containers], gathering reports/repeat.jsonl
	@$(HARNESS) repeat --times $(TIMES) $(if $(HOST),--host $(HOST))

catalogue: setup ## run every bug where it fails and where it passes, for BUDGET; write the tables
	@$(HARNESS) catalogue --budget $(BUDGET)

open-webui: setup ## a real Open WebUI beside the runtime, TIMES=3 runs each, for BUDGET; write the tables
	@$(PYTHON) -m harness.beside --repeat $(if $(filter file,$(origin TIMES)),3,$(TIMES)) --budget $(BUDGET)

deployments: setup ## the main scenarios on plain and secured Redis, on both hosts, for BUDGET; write the table
	@$(HARNESS) images build redis || true
	@$(PYTHON) -m harness.variants --budget $(BUDGET)

clean: ## end what dead runs left behind; remove caches
	@if [ -x $(HARNESS) ]; then $(HARNESS) clean; fi
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .benchmarks *.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
