#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes .venv with the pinned dependencies; does nothing when they are there already.
# tools/venv.sh test: adds what the tests and `make lint` need.
set -eu
cd "$(dirname "$0")/.."
exec 9<"tools/venv.sh" && flock 9  # one at a time, if two shells make something
PYTHON=${PYTHON:-python3}
DISTRO=${DISTRO:-jazzy}

runtime="requirements/build.txt requirements/ros-$DISTRO.txt requirements/core.txt"
tests="requirements/dev.txt requirements/data.txt requirements/evaluate.txt
    requirements/benchmarks.txt requirements/train.txt"
[ -e "requirements/ros-$DISTRO.txt" ] || {
    echo "error: DISTRO=$DISTRO: PyPI has jazzy and kilted" >&2; exit 1; }
stamp=.venv/requirements.sha256
tests_stamp=.venv/requirements-tests.sha256
hash_of() { cat "$@" | sha256sum | cut -c1-64; }
wanted="$DISTRO $(hash_of $runtime)"
tests_wanted="$wanted $(hash_of $tests)"
had=$(cat $stamp 2>/dev/null || true)
pip() { tools/clean_env.sh .venv/bin/python -m pip --disable-pip-version-check -qq "$@"; }
install_tests() {
    [ "$(cat $tests_stamp 2>/dev/null)" != "$tests_wanted" ] || return 0
    echo "Adding what the tests need to .venv."
    rm -f $tests_stamp
    pip install $(printf ' -r %s' $runtime $tests)
    echo "$tests_wanted" > $tests_stamp
}
if [ "$had" = "$wanted" ]; then
    [ "${1:-}" != test ] || install_tests
    exit 0
fi

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
    echo "error: $PYTHON is not Python 3.10 or newer: sudo apt install python3" >&2; exit 1; }
missing=
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
"$PYTHON" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' ||
    missing="$missing python3-dev"
command -v c++ >/dev/null || missing="$missing g++"
[ -z "$missing" ] || { echo "error: missing packages: sudo apt install$missing" >&2; exit 1; }

if [ "${had%% *}" != "$DISTRO" ] || ! .venv/bin/python -c '' 2>/dev/null; then
    echo "Making .venv with ROS 2 $DISTRO. To download: 0.5 GB, of which torch's CPU build is 0.2 GB."
    echo "(Where pip would fetch torch's CUDA build: 3 GB. Choose the CPU build's index with"
    echo "TORCH_INDEX=<its address>, see https://pytorch.org/get-started.)"
    # One distribution a venv: pip would leave the other's parts in place.
    rm -rf .venv build
    "$PYTHON" -m venv .venv
else
    echo "Bringing .venv up to date with requirements/."
fi
rm -f $stamp $tests_stamp
pip install "$(grep '^setuptools==' requirements/build.txt)"
[ -z "${TORCH_INDEX:-}" ] ||
    pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' requirements/core.txt)"
pip install $(printf ' -r %s' $runtime)
echo "$wanted" > $stamp
[ "${1:-}" != test ] || install_tests
