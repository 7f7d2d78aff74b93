# `make help` lists the targets. Each makes the environment it needs, once, and again only when
# setup.py or pyproject.toml has changed.

PYTHON ?= python3
VENV ?= .venv
VENV_MIN ?= .venv-min
DEMO_RUN ?= runs/demo
# Two workers keep two cores busy; each holds a TensorFlow of its own (about 1 GB).
PYTEST_FLAGS ?= -n 2 --dist=loadfile

export TF_CPP_MIN_LOG_LEVEL ?= 2

METADATA = setup.py pyproject.toml
BIN = $(VENV)/bin

.DEFAULT_GOAL = help
.PHONY: help venv demo test lint types wheel check test-min bazel-test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.installed ## make .venv with the package in it, editable

demo: $(VENV)/.installed ## train on scikit-learn's digits with 80% noise, under 3 minutes
	rm -rf $(DEMO_RUN)
	$(BIN)/python -m kdmlc_tf.train --dataset=digits --noise=0.8 --run=$(DEMO_RUN)

test: $(VENV)/.installed-test ## all tests and doctests
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: $(VENV)/.installed-test ## ruff
	$(BIN)/ruff check --output-format=concise .

types: $(VENV)/.installed-test ## mypy
	$(BIN)/mypy

wheel: $(VENV)/.installed-test ## build the wheel and import it from outside the repository
	$(BIN)/python tools/check_wheel.py

check: lint types wheel test ## everything a change must pass: lint, types, wheel, doctests, tests

test-min: $(VENV_MIN)/.installed-test ## all tests with the oldest TensorFlow and Keras allowed
	$(VENV_MIN)/bin/python -m pytest $(PYTEST_FLAGS)

bazel-test: $(VENV)/.installed-test ## build and test everything with Bazel, offline
	tools/bazel_test.sh $(BIN)

clean: ## remove environments, build outputs and caches; runs/ stays
	rm -rf $(VENV) $(VENV_MIN) build dist *.egg-info .bazel .mypy_cache .pytest_cache .ruff_cache
	find kdmlc_tf tests tools -name __pycache__ -prune -exec rm -rf {} +

# $(call install,ENVIRONMENT,REQUIREMENTS): makes the environment where it is missing.
define install
	@$(PYTHON) -c 'import sys; sys.exit("kdmlc_tf needs Python 3.10 or newer; $(PYTHON) is " \
	  + sys.version.split()[0] + ". Set PYTHON=... to another." if sys.version_info < (3, 10) else 0)'
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	@echo "Installing into $(1); TensorFlow is large, the first time takes some minutes."
	@$(1)/bin/python -m pip --disable-pip-version-check install --quiet --editable $(2)
	@touch $@
endef

$(VENV)/.installed: $(METADATA)
	$(call install,$(VENV),.)

$(VENV)/.installed-test: $(METADATA)
	$(call install,$(VENV),'.[test]')
	@touch $(VENV)/.installed

$(VENV_MIN)/.installed-test: $(METADATA)
	$(call install,$(VENV_MIN),'.[test]' 'tensorflow==2.19.*' 'keras==3.11.*' 'tensorflow-metadata<1.18')
