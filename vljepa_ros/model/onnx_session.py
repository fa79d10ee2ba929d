# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime sessions on the CPU, with a bounded number of threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vljepa_ros.core.errors import ModelError


def open_session(path: Path, threads: int = 1) -> Any:
    """Load an ONNX graph for inference on the CPU.

    Idle threads do not spin, so that a busy machine loses no CPU time to them.

    Args:
        path: The ONNX file.
        threads: Number of threads of one operator.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        ModelError: onnxruntime is not installed, or the file is missing or damaged.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            f'{path.name} needs ONNX Runtime, which cannot be imported ({error}): '
            'pip install onnxruntime'
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.log_severity_level = 4  # errors are raised, and need no line in the log
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise ModelError(f'{path}: {str(error).splitlines()[0]:.300}') from error
