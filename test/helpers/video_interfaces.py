# SPDX-License-Identifier: Apache-2.0
"""Interface packages foxglove_msgs and ffmpeg_image_transport_msgs, built by colcon for tests.

They are not on PyPI. These have the names and fields of the messages that the nodes read, and
nothing else of the real packages.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

from vljepa_ros.core.images import FFMPEG, FOXGLOVE
from vljepa_ros.sources.bag_images import DEFINITIONS

PACKAGES = {name.split('/')[0]: name for name in (FFMPEG, FOXGLOVE)}
ROOT = Path(__file__).parents[2]
DEPENDENCIES = ('builtin_interfaces', 'std_msgs')
# The wheels of ROS export include folders of other machines, at which CMake stops; see the
# CMakeLists.txt of vljepa_ros.
CMAKE = """
cmake_minimum_required(VERSION 3.16)
project({package})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
foreach(package builtin_interfaces rosidl_runtime_c rosidl_runtime_cpp
    rosidl_typesupport_interface service_msgs std_msgs)
  find_package(${{package}} REQUIRED)
endforeach()
file(STRINGS {root}/CMakeLists.txt lines NEWLINE_CONSUME)
string(REGEX MATCH "function\\\\(drop_missing.*endfunction\\\\(\\\\)" mend "${{lines}}")
file(WRITE ${{CMAKE_BINARY_DIR}}/mend.cmake "${{mend}}")
include(${{CMAKE_BINARY_DIR}}/mend.cmake)
drop_missing_include_folders()
rosidl_generate_interfaces(${{PROJECT_NAME}} {file} DEPENDENCIES builtin_interfaces std_msgs)
ament_package()
"""
PACKAGE_XML = """<package format="3">
<name>{package}</name><version>0.0.0</version><description>for tests</description>
<maintainer email="tests@vljepa-ros.dev">tests</maintainer><license>Apache-2.0</license>
<buildtool_depend>ament_cmake</buildtool_depend>
<buildtool_depend>rosidl_default_generators</buildtool_depend>
<depend>builtin_interfaces</depend><depend>std_msgs</depend>
<member_of_group>rosidl_interface_packages</member_of_group>
<export><build_type>ament_cmake</build_type></export>
</package>
"""


def build(folder: Path) -> None:
    """Build the packages into `folder`/install, or copy those of an earlier run."""
    texts = (CMAKE, PACKAGE_XML, *DEFINITIONS.values(), sys.version)
    kept = ROOT / 'build' / f'video_interfaces-{zlib.crc32(repr(texts).encode()):08x}'
    if not kept.is_dir():
        _build(folder)
        shutil.copytree(folder, folder.with_suffix('.copy'))
        with contextlib.suppress(OSError):  # another run copied it first
            shutil.move(folder.with_suffix('.copy'), kept)
    else:
        shutil.copytree(kept, folder)


def _build(folder: Path) -> None:
    for package, name in PACKAGES.items():
        message = f'msg/{name.split("/")[-1]}.msg'
        source = folder / 'src' / package
        (source / 'msg').mkdir(parents=True)
        (source / message).write_text(DEFINITIONS[name].lstrip())
        (source / 'package.xml').write_text(PACKAGE_XML.format(package=package))
        (source / 'CMakeLists.txt').write_text(
            CMAKE.format(package=package, file=message, root=ROOT)
        )
    venv = sys.prefix
    found = subprocess.run(
        [
            *(str(ROOT / 'tools/clean_env.sh'), 'env', f'AMENT_PREFIX_PATH={venv}'),
            *(f'CMAKE_PREFIX_PATH={venv}', f'PATH={venv}/bin:{os.environ["PATH"]}'),
            *(f'COLCON_HOME={folder / "home"}', f'{venv}/bin/colcon', '--log-base', 'log'),
            *('build', '--merge-install', '--cmake-args', '-DBUILD_TESTING=OFF'),
            f'-DPython3_EXECUTABLE={sys.executable}',
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def load(folder: Path) -> None:
    """Make the packages importable in this process and, by the environment, in its children."""
    install = folder / 'install'
    site = next(install.glob('lib/python*/site-packages'))
    for name, path in (
        ('PYTHONPATH', site),
        ('LD_LIBRARY_PATH', install / 'lib'),
        ('AMENT_PREFIX_PATH', install),
    ):
        os.environ[name] = os.pathsep.join(filter(None, (str(path), os.environ.get(name, ''))))
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    # The loader reads LD_LIBRARY_PATH only when a process starts.
    libraries = sorted(install.glob('lib/lib*.so'), key=lambda path: 'generator' not in path.name)
    for library in libraries:
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
