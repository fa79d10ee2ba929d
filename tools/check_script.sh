#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks the types of the script of `vljepa report`. npm downloads the TypeScript compiler once.
set -eu
cd "$(dirname "$0")/.."
command -v npm >/dev/null || { echo 'npm is not installed: the types of page.js are not checked'; exit 0; }
exec npm exec --yes --package=typescript@5.9 -- tsc --noEmit --allowJs --checkJs --strict \
    --target es2022 --lib es2022,dom,dom.iterable vljepa_ros/report/page.js
