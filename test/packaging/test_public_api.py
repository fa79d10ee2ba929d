# SPDX-License-Identifier: Apache-2.0
"""Public names of `vljepa_ros`, and the modules that importing them loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vljepa_ros
from vljepa_ros.core import errors
from vljepa_ros.core.settings import Settings
from vljepa_ros.core.types import Frame
from vljepa_ros.model.registry import load
from vljepa_ros.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[2]
ERRORS = {
    'BusyError',
    'CameraError',
    'DepthImageError',
    'DiskFullError',
    'ErrorCode',
    'InactiveError',
    'InputError',
    'InternalError',
    'ModelError',
    'ModelMismatchError',
    'NoFrameError',
    'NoKeyFrameError',
    'NotStoredError',
    'OutputError',
    'UnavailableError',
    'VljepaError',
}
HEAVY = {'torch', 'transformers', 'cv2', 'scipy', 'rclpy'}


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a new process has loaded after a statement."""
    code = f'import sys\n{statement}\nprint(*sorted({{m.partition(".")[0] for m in sys.modules}}))'
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return set(done.stdout.split())


def test_exported_names() -> None:
    assert set(vljepa_ros.__all__) == {'Pipeline', 'load', 'Frame', 'Settings'} | ERRORS
    assert len(vljepa_ros.__all__) == len(set(vljepa_ros.__all__))
    assert set(vljepa_ros.__all__) <= set(dir(vljepa_ros))


def test_exported_names_are_those_of_their_modules() -> None:
    assert vljepa_ros.Pipeline is Pipeline
    assert vljepa_ros.load is load
    assert vljepa_ros.Frame is Frame
    assert vljepa_ros.Settings is Settings
    for name in ERRORS:
        assert getattr(vljepa_ros, name) is getattr(errors, name)


def test_every_error_is_exported() -> None:
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert classes == ERRORS - {'ErrorCode'}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match='no_such_name'):
        getattr(vljepa_ros, 'no_such_name')  # noqa: B009
    with pytest.raises(ImportError):
        from vljepa_ros import no_such_name  # noqa: F401


def test_importing_the_package_loads_neither_torch_nor_numpy() -> None:
    loaded = loaded_by('import vljepa_ros')
    assert 'vljepa_ros' in loaded
    assert not loaded & {*HEAVY, 'numpy'}


def test_errors_and_settings_load_neither_torch_nor_numpy() -> None:
    assert not loaded_by('from vljepa_ros import InputError, Settings') & {*HEAVY, 'numpy'}


def test_the_pipeline_loads_no_torch() -> None:
    assert 'torch' not in loaded_by('from vljepa_ros import Frame, Pipeline')
