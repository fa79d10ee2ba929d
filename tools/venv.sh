#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Creates .venv with the pinned dependencies; does nothing if they are installed already.
# tools/venv.sh test: also installs the dependencies of the tests and of `make lint`.
set -eu
cd "$(dirname "$0")/.."
exec 9<"tools/venv.sh" && flock 9  # lock against concurrent runs in other shells
PYTHON=${PYTHON:-python3}
DISTRO=${DISTRO:-jazzy}

runtime="requirements/build.txt requirements/ros-$DISTRO.txt requirements/core.txt"
tests="requirements/dev.txt requirements/data.txt requirements/evaluate.txt
    requirements/benchmarks.txt requirements/train.txt"
[ -e "requirements/ros-$DISTRO.txt" ] || {
    echo "error: unknown DISTRO '$DISTRO': use jazzy or kilted" >&2; exit 1; }
stamp=.venv/requirements.sha256
tests_stamp=.venv/requirements-tests.sha256
hash_of() { cat "$@" | sha256sum | cut -c1-64; }
wanted="$DISTRO $(hash_of $runtime)"
tests_wanted="$wanted $(hash_of $tests)"
had=$(cat $stamp 2>/dev/null || true)
# Runs pip install with a progress display. tools/progress.py reads the progress in its raw form.
install() {
    title=$1 bar=$2
    shift 2
    tools/clean_env.sh .venv/bin/python tools/progress.py "$title" .venv/pip.log \
        .venv/bin/python -m pip --disable-pip-version-check install --progress-bar "$bar" "$@"
}
install_tests() {
    [ "$(cat $tests_stamp 2>/dev/null)" != "$tests_wanted" ] || return 0
    rm -f $tests_stamp
    install 'Packages of the tests' raw $(printf ' -r %s' $runtime $tests)
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
    echo "Creating .venv with ROS 2 $DISTRO. Download: 0.5 GB, including 0.2 GB for torch (CPU build)."
    echo "(If pip selects the CUDA build of torch, the download is 3 GB. To select the CPU build, set"
    echo "TORCH_INDEX=<address of its index>, see https://pytorch.org/get-started.)"
    # Only one distribution per venv: pip would leave packages of the other one in place.
    rm -rf .venv build
    "$PYTHON" -m venv .venv
else
    echo "Updating .venv to the current requirements/."
fi
rm -f $stamp $tests_stamp
install 'pip and setuptools' off $(grep -E '^(pip|setuptools)[=>]' requirements/build.txt)
[ -z "${TORCH_INDEX:-}" ] ||
    install 'torch' raw --index-url "$TORCH_INDEX" "$(grep '^torch==' requirements/core.txt)"
install "ROS 2 $DISTRO, torch and other packages" raw $(printf ' -r %s' $runtime)
echo "$wanted" > $stamp
[ "${1:-}" != test ] || install_tests
