#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Draws docs/assets/report.png: a report on the sample bag, in a browser. Needs Debian's chromium.
set -eu
cd "$(dirname "$0")/.."
page=$(mktemp --suffix .html)
trap 'rm -f "$page"' EXIT
tools/clean_env.sh .venv/bin/vljepa report samples/bench --out "$page" --title 'Sample recording' \
    --watch 'the light is off' --ask 'Is the light on?'
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,900 \
    --virtual-time-budget=4000 --screenshot=docs/assets/report.png "file://$page#t=46" 2>/dev/null
