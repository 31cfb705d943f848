# Everything that people and CI call. The first use of a target makes .venv and installs what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --quiet --disable-pip-version-check install --no-compile --no-warn-conflicts -c constraints.txt
# Only its photos are wanted; what it needs to run would double the size of the environment.
PHOTOS := --no-deps scikit-image
# They want other versions of OpenCV, Pillow, NumPy, pandas and supervision than ours. What the tests need of the
# rest is in the extra "dev".
CLIENTS := --no-deps inference-sdk datumaro label-studio-sdk
MODEL ?= grabcut
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo serve test check fix bench audit constraints clean

help: ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

demo: $(VENV)/.demo ## Start the service, segment a photo, save its masks, stop (MODEL=grabcut, sam_vit_b …)
ifneq ($(filter sam_%,$(MODEL)),)
	$(BIN)/maskline models pull $(MODEL)
	$(INSTALL) -e '.[local,sam]'
endif
	$(BIN)/maskline demo --model $(MODEL)

serve: $(VENV)/.serve ## Run the service on this machine until Ctrl-C
	@exec $(BIN)/maskline up $(ARGS)

test: $(VENV)/.dev ## Run all tests (ARGS="-k name" for some)
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev ## Lint, types, and the rules on who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.dev ## Mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure, and print measured against target
	$(BIN)/python -m bench

audit: $(VENV)/.dev ## Look the pinned dependencies up among the known vulnerabilities
	$(BIN)/python .ci/audit.py

constraints: ## Pin the newest versions of everything in constraints.txt
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip --quiet install '.[dev]'
	build/constraints/bin/python -m pip --quiet install $(PHOTOS)
	build/constraints/bin/python -m pip --quiet install $(CLIENTS)
	build/constraints/bin/python -m pip freeze --exclude maskline | grep -v '@' > constraints.txt
	rm -rf build/constraints

clean: ## Remove what these targets made, but not the service's data
	rm -rf $(VENV) build maskline-demo *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Maskline needs Python 3.11 or newer")'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo 'Python has no venv; on Debian: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[local]'
	$(INSTALL) $(PHOTOS)
	@touch $@

$(VENV)/.serve: $(VENV)/.demo
	$(INSTALL) -e '.[local,pictures]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	$(INSTALL) $(PHOTOS)
	$(INSTALL) $(CLIENTS)
	@touch $@ $(VENV)/.demo $(VENV)/.serve
