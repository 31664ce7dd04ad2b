# Two commands for a fresh clone on Debian, as root: `make demo` shows Clovisor at work, `make test` proves it.
# Both install what is missing first (tools/setup); options for the command go into ARGS: make demo ARGS='--requests 50'.

SHELL := /bin/bash
BIN := .venv/bin
ARGS ?=
CHECKS := lint format types layers tests

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo test bench clean $(CHECKS)
.NOTPARALLEL:

help: ## this list
	@echo 'make TARGET [ARGS=…]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## install what `clovisor` needs: packages, .venv, bpffs
	@tools/setup

setup-test: ## and what its tests and checks need
	@tools/setup --test

demo: setup ## set up, then trace five small pods for some seconds
	@$(BIN)/clovisor demo $(ARGS)

test: setup-test ## set up, then all checks: lint, format, types, layers, tests with coverage
	@$(MAKE) --no-print-directory --keep-going $(CHECKS)

bench: setup-test ## set up, then measure what tracing costs
	@$(BIN)/python tools/bench $(ARGS)

lint: ## ruff check (this and what follows: after `make test` has set them up)
	@$(BIN)/ruff check .

format: ## ruff format, as a question (`.venv/bin/ruff format` answers it)
	@$(BIN)/ruff format --check .

types: ## mypy, strict
	@$(BIN)/mypy

layers: ## imports go down only
	@$(BIN)/lint-imports --no-logo

tests: ## pytest with coverage; ARGS='-k redis' for some of them
	@tools/tests $(ARGS)

clean: ## remove what the other targets made here (packages stay)
	@rm -rf .venv *.egg-info build .coverage .coverage.* .hypothesis .*_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
