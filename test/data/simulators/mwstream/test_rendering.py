# SPDX-License-Identifier: Apache-2.0
"""Renderers are freed without error output."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from ctypes.util import find_library

import pytest

RENDER = """
import mujoco
from vljepa_ros.data.simulators.mwstream.rendering import Renderer, model_camera, prepare_model
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom size="1"/>'
    '<camera name="front" pos="0 -3 0" xyaxes="1 0 0 0 0 1"/></worldbody></mujoco>'
)
prepare_model(model, 16)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = Renderer(model, 16)
renderer.update(data, model_camera(0))
assert renderer.image().shape == (16, 16, 3) and renderer.image().max() > 0
"""


@pytest.mark.parametrize(
    ('backend', 'library', 'package'),
    [('osmesa', 'OSMesa', 'libosmesa6'), ('egl', 'EGL', 'libegl1')],
)
def test_a_process_that_rendered_exits_without_output(
    backend: str, library: str, package: str
) -> None:
    if importlib.util.find_spec('mujoco') is None:
        pytest.skip('mujoco is not installed')
    if find_library(library) is None:
        pytest.skip(f'needs the Debian package {package}')
    given = os.environ | {'MUJOCO_GL': backend}
    given.pop('PYOPENGL_PLATFORM', None)  # set by whatever rendered in this process before
    command = [sys.executable, '-c', RENDER]
    found = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    if 'Cannot initialize a EGL device' in found.stderr:
        pytest.skip('EGL finds no device')
    assert (found.returncode, found.stderr) == (0, '')
