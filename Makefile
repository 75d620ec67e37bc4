.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: help install up down test mutate campaign api-fuzz gpu-test e2e cluster cluster-down cluster-test dev check bench lock crds

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(or $(shell command -v uv),$(BIN)/uv)
# Remembered, so that a later `make` without the variable does not change the build of torch.
UV_TORCH_BACKEND := $(or $(UV_TORCH_BACKEND),$(shell cat $(VENV)/torch-backend 2>/dev/null))
TORCH := ^(torch|triton|nvidia-|cuda-)
# pytest-xdist: one worker per core; the tests of a file share one worker, and with it its servers.
PYTEST_ARGS ?= -n 2 --dist loadfile
export CLUSTER_DIR ?= $(HOME)/.cache/inference-cluster
# What follows needs a Kubernetes whose node is this machine: the one that KUBECONFIG names, or our own.
ON_CLUSTER = export PATH="$(CLUSTER_DIR)/bin:$$PATH"; if [ -z "$${KUBECONFIG:-}" ]; then tests/cluster/up; \
	export KUBECONFIG=$(CLUSTER_DIR)/admin.kubeconfig; \
	elif ! kubectl get node node-1 >/dev/null; then \
	echo 'KUBECONFIG names another cluster than that of `make cluster`: unset it'; exit 1; fi
COMPILE := uv pip compile pyproject.toml --quiet --all-extras --group dev --group development \
	--group example --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command 'make lock'

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1	\2/' | expand -t 20

install: $(VENV)/installed  ## Make .venv from requirements.lock; nothing to do when it is current.

up: install  ## Start the server in the background, with an example model (PORT=, INFERENCE_HOME=).
	@$(BIN)/inference up --example crds/examples/smollm2.yaml $(if $(PORT),--port $(PORT))

down:  ## Stop it.
	@$(BIN)/inference down

test: install  ## Run all tests: real PostgreSQL, Valkey, runners and a real small model.
	@$(BIN)/pytest $(PYTEST_ARGS) $(addprefix --ignore tests/,images e2e kubernetes skaffold) tests

# Nothing is installed for it: a machine with a GPU often has a torch of its own (see tests/gpu/__main__.py).
gpu-test:  ## Compare and measure the engines on a GPU, with what is installed (ARGS=--cpu: tiny, without).
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) tests/gpu $(ARGS)

campaign: install  ## Are the promises kept while all goes wrong? (SEED=, SEEDS=, PREDICTIONS=, FAULTS=, ONLY=)
	@PYTHONPATH=tests/plugins $(BIN)/python tests/campaign

api-fuzz: install  ## 100,000 requests by schemathesis: is each answered as documented? (REQUESTS=, SEED=, EXAMPLES=)
	@PYTHONPATH=tests/plugins $(BIN)/python tests/api

mutate: install  ## Change the pure decisions place by place: do their tests notice? (ONLY=scaling, SAMPLE=100, SHOW=0)
	@nice -n 19 $(BIN)/python tests/mutation

e2e: install  ## Build the images, install the chart on a real cluster and use it, part by part.
	@took() { parts+=$$(printf '\n%5d s  %s' $$((SECONDS - $${since:-0})) "$$1"); since=$$SECONDS; }
	trap 'echo "$${parts:-}"' EXIT
	$(ON_CLUSTER)
	took cluster
	tests/cluster/images
	took images
	tests/cluster/tools skaffold
	took skaffold
	PATH="$(CLUSTER_DIR)/bin:$$PATH" $(BIN)/pytest -s --durations 0 --durations-min 1 tests/images tests/e2e tests/skaffold
	took tests

cluster:  ## Start a Kubernetes of one node on this machine (root; the first time it is built: 8 minutes).
	@tests/cluster/up

cluster-down:  ## Stop it and forget what it held.
	@tests/cluster/down --delete

cluster-test: install  ## Run the tests against the Kubernetes that `make cluster` starts.
	@$(ON_CLUSTER)
	$(BIN)/pytest $(PYTEST_ARGS) tests/kubernetes

dev:  ## Skaffold's development loop on that cluster, without Docker; the API on localhost:8000.
	@$(ON_CLUSTER)
	tests/cluster/tools skaffold
	tests/cluster/images postgres valkey
	PATH="$(CLUSTER_DIR)/bin:$$PATH" skaffold dev --profile buildah --default-repo localhost:5000

check: install  ## Lint, types, import rules, lock file and generated files current.
	@step() { echo "== $$*"; "$$@"; }
	export PATH="$(CURDIR)/$(BIN):$$PATH"
	step ruff check .
	step ruff format --check .
	step mypy
	for alone in tests/*/__main__.py tests/operator/stub/inference_runner/__main__.py; do step mypy $$alone; done
	step lint-imports
	step python crds/generate.py --check
	cp requirements.lock $(VENV)/requirements.lock
	step $(COMPILE) --output-file $(VENV)/requirements.lock
	diff requirements.lock $(VENV)/requirements.lock \
		|| { echo 'requirements.lock is not current: run `make lock`'; exit 1; }

bench: install  ## Measure; some parts only: PARTS="echo creates stream start depth hostile scaling", and on a cluster "fleet coldstart".
	@PYTHONPATH=tests/plugins $(BIN)/python tests/bench $(PARTS)

lock: install  ## Renew requirements.lock within the bounds of pyproject.toml.
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(COMPILE) --upgrade --output-file requirements.lock

crds: install  ## Generate crds/inferencemodels.yaml from its types.
	@$(BIN)/python crds/generate.py

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null \
		|| { echo 'Python 3.11 or newer is needed: apt-get install python3 python3-venv'; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
		"$$($(PYTHON) --version) is too old: 3.11 or newer is needed (make PYTHON=python3.11 …)"; exit 1; }
	echo "== $(VENV): $$($(PYTHON) --version)"
	$(PYTHON) -m venv --without-pip $(VENV)

$(BIN)/uv: | $(BIN)/python
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo \
		"$(PYTHON) cannot install pip: apt-get install python3-venv (or install uv)"; exit 1; }
	echo "== uv, as locked"
	$(BIN)/python -m ensurepip >/dev/null
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock >$(VENV)/uv.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r $(VENV)/uv.lock

# With UV_TORCH_BACKEND (cpu, cu128, …) torch and what belongs to it come from that build's own
# index: the hashes of the lock are of another file, so only the locked version holds for them.
$(VENV)/installed: requirements.lock pyproject.toml | $(BIN)/python $(UV)
	@echo "== packages of requirements.lock; the first time this takes minutes"
	install="$(UV) pip install --python $(BIN)/python --compile-bytecode"
	if [ -n "$(UV_TORCH_BACKEND)" ]; then
		awk '/^[^ ]/ {skip = /$(TORCH)/} !skip' requirements.lock >$(VENV)/others.lock
		$$install --require-hashes --no-deps -r $(VENV)/others.lock
		$$install --torch-backend $(UV_TORCH_BACKEND) "$$(grep -oE '^torch==[^ ]+' requirements.lock)"
		echo $(UV_TORCH_BACKEND) >$(VENV)/torch-backend
	else
		$$install --require-hashes --no-deps -r requirements.lock
	fi
	$$install --no-deps --no-build-isolation --editable .
	touch $@
