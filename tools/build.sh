#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds interfaces and package with colcon, into .venv: nothing needs to be sourced afterwards.
# The Python files there are links to those here, so only new, gone or compiled files need a build.
set -eu
cd "$(dirname "$0")/.."
exec 9<"tools/venv.sh" && flock 9  # one at a time, if two shells make something
venv=$PWD/.venv
stamp=build/built.sha256

wanted=$({
    cat .venv/requirements.sha256
    find vljepa_ros scripts launch config models samples -name __pycache__ -prune -o -type f -print |
        sort
    cat CMakeLists.txt package.xml msg/* srv/* action/* tools/build.sh
} 2>/dev/null | sha256sum)
[ "$(cat $stamp 2>/dev/null)" != "$wanted" ] || [ ! -x "$venv/bin/vljepa" ] || exit 0

mkdir -p build
rm -f $stamp
if ! tools/clean_env.sh env AMENT_PREFIX_PATH="$venv" CMAKE_PREFIX_PATH="$venv" \
    COLCON_HOME="$PWD/build/colcon_home" VIRTUAL_ENV="$venv" PATH="$venv/bin:$PATH" \
    colcon --log-base build/log build --base-paths . --packages-select vljepa_ros \
    --build-base build/colcon --install-base "$venv" --merge-install --symlink-install \
    --cmake-args -DPython3_EXECUTABLE="$venv/bin/python" -DBUILD_TESTING=OFF \
    > build/build.log 2>&1; then
    cat build/build.log >&2
    echo "error: the build failed, see above" >&2
    exit 1
fi

# Links to files that are gone.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
find "$site/vljepa_ros" "$venv/share/vljepa_ros" "$venv/lib/vljepa_ros" -xtype l -delete

cat > "$venv/bin/vljepa" <<EOF
#!$venv/bin/python
from vljepa_ros.cli.main import main

if __name__ == '__main__':  # worker processes read this file as well
    raise SystemExit(main())
EOF
chmod +x "$venv/bin/vljepa"
echo "$wanted" > $stamp
