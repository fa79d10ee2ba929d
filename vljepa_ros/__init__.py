# SPDX-License-Identifier: Apache-2.0
"""Streaming VL-JEPA for ROS 2: embeddings, text events and answers from camera streams."""

from __future__ import annotations

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vljepa_ros.core.errors import (
        BusyError,
        CameraError,
        DepthImageError,
        DiskFullError,
        ErrorCode,
        InactiveError,
        InputError,
        InternalError,
        ModelError,
        ModelMismatchError,
        NoFrameError,
        NoKeyFrameError,
        NotStoredError,
        OutputError,
        UnavailableError,
        VljepaError,
    )
    from vljepa_ros.core.settings import Settings
    from vljepa_ros.core.types import Frame
    from vljepa_ros.model.registry import load
    from vljepa_ros.pipeline import Pipeline

__all__ = [
    'BusyError',
    'CameraError',
    'DepthImageError',
    'DiskFullError',
    'ErrorCode',
    'Frame',
    'InactiveError',
    'InputError',
    'InternalError',
    'ModelError',
    'ModelMismatchError',
    'NoFrameError',
    'NoKeyFrameError',
    'NotStoredError',
    'OutputError',
    'Pipeline',
    'Settings',
    'UnavailableError',
    'VljepaError',
    'load',
]

# The interfaces that rosidl generates are installed in another folder of the same package name.
__path__ = extend_path(__path__, __name__)

__version__ = '0.1.0'

_MODULES = {
    'Frame': 'core.types',
    'Pipeline': 'pipeline',
    'Settings': 'core.settings',
    'load': 'model.registry',
}  # all other exported names are in core.errors

if not TYPE_CHECKING:  # so that a type checker still reports unknown names

    def __getattr__(name: str) -> object:
        """Import an exported name on first use, so that `import vljepa_ros` loads no torch."""
        if name not in __all__:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        module = import_module(f'{__name__}.{_MODULES.get(name, "core.errors")}')
        value = globals()[name] = getattr(module, name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
