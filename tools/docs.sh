#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the documentation site into build/site. A broken link or a missing page is an error.
# Usage: tools/docs.sh [build|serve]
set -eu
cd "$(dirname "$0")/.."
stamp=.venv/docs_requirements.sha256
wanted=$(cat .venv/requirements.sha256 requirements/docs.txt | sha256sum)
if [ "$(cat $stamp 2>/dev/null)" != "$wanted" ]; then
    tools/clean_env.sh .venv/bin/python tools/progress.py 'Packages of the documentation' .venv/pip.log \
        .venv/bin/python -m pip --disable-pip-version-check install --progress-bar raw \
        -r requirements/docs.txt
    echo "$wanted" > $stamp
fi
export NO_MKDOCS_2_WARNING=1  # suppress a notice of MkDocs Material about another project
case ${1:-build} in
    build) set -- build --strict --quiet ;;
    *) set -- serve ;;
esac
tools/clean_env.sh .venv/bin/python -m mkdocs "$@"
[ "$1" = serve ] || echo "documentation: build/site/index.html"
