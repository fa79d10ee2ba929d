#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the interfaces and the package with colcon into .venv; no setup file needs to be sourced.
# The Python files in .venv are links to the source tree, so a rebuild is needed only after files
# were added or removed, or compiled files changed.
set -eu
cd "$(dirname "$0")/.."
exec 9<"tools/venv.sh" && flock 9  # lock against concurrent runs in other shells
venv=$PWD/.venv
stamp=build/built.sha256

wanted=$({
    cat .venv/requirements.sha256
    find vljepa_ros scripts launch config models samples -name __pycache__ -prune -o -type f -print |
        sort
    cat CMakeLists.txt package.xml msg/* srv/* action/* scripts/vljepa tools/build.sh
} 2>/dev/null | sha256sum)
[ "$(cat $stamp 2>/dev/null)" != "$wanted" ] || [ ! -x "$venv/bin/vljepa" ] || exit 0

mkdir -p build
rm -f $stamp
tools/clean_env.sh env AMENT_PREFIX_PATH="$venv" CMAKE_PREFIX_PATH="$venv" \
    COLCON_HOME="$PWD/build/colcon_home" VIRTUAL_ENV="$venv" PATH="$venv/bin:$PATH" \
    "$venv/bin/python" tools/progress.py 'Interfaces and package' build/build.log \
    colcon --log-base build/log build --base-paths . --packages-select vljepa_ros \
    --build-base build/colcon --install-base "$venv" --merge-install --symlink-install \
    --event-handlers console_direct+ \
    --cmake-args -DPython3_EXECUTABLE="$venv/bin/python" -DBUILD_TESTING=OFF

# Remove links to deleted files.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
find "$site/vljepa_ros" "$venv/share/vljepa_ros" "$venv/lib/vljepa_ros" -xtype l -delete

# With a shebang of its own, the command needs no active .venv. The link to scripts/vljepa is removed, so
# that nothing is written through it.
rm -f "$venv/bin/vljepa"
{ echo "#!$venv/bin/python"; tail -n +2 scripts/vljepa; } > "$venv/bin/vljepa"
chmod +x "$venv/bin/vljepa"
echo "$wanted" > $stamp
