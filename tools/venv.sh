#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes .venv with the pinned dependencies; does nothing when they are there already.
set -eu
cd "$(dirname "$0")/.."
exec 9<"tools/venv.sh" && flock 9  # one at a time, if two shells make something
PYTHON=${PYTHON:-python3}
DISTRO=${DISTRO:-jazzy}

requirements="requirements/build.txt requirements/ros-$DISTRO.txt requirements/core.txt requirements/dev.txt"
[ -e "requirements/ros-$DISTRO.txt" ] || {
    echo "error: DISTRO=$DISTRO: PyPI has jazzy and kilted" >&2; exit 1; }
stamp=.venv/requirements.sha256
wanted="$DISTRO $(cat $requirements | sha256sum | cut -c1-64)"
had=$(cat $stamp 2>/dev/null || true)
[ "$had" != "$wanted" ] || exit 0

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
rm -f $stamp
pip() { tools/clean_env.sh .venv/bin/python -m pip --disable-pip-version-check -qq "$@"; }
pip install "$(grep '^setuptools==' requirements/build.txt)"
[ -z "${TORCH_INDEX:-}" ] ||
    pip install --index-url "$TORCH_INDEX" "$(grep '^torch==' requirements/core.txt)"
pip install $(printf ' -r %s' $requirements)
echo "$wanted" > $stamp
