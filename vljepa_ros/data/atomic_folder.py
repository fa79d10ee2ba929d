# SPDX-License-Identifier: Apache-2.0
"""Folders that appear only when they are whole: filled as `.<name>.<process id>`, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vljepa_ros.core.errors import OutputError


@contextmanager
def appearing(final: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of `final` at the end, or goes without a trace.

    Raises:
        OutputError: nothing can be written there, for lack of space for example.
    """
    partial = final.with_name(f'.{final.name}.{os.getpid()}')
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    except OSError as error:
        raise OutputError(
            f'cannot write to {final.parent}: {error.strerror or error}; what is whole there '
            'stays: run the same command again to go on'
        ) from error
    finally:  # an interrupt leaves nothing, either
        shutil.rmtree(partial, ignore_errors=True)


def open_folder(folder: Path) -> None:
    """Make a folder to write to, and clear it of what killed runs left. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'cannot write to {folder}: {error.strerror or error}') from error
    remove_partial(folder)


def remove_partial(folder: Path) -> None:
    """Remove what ended processes left half-filled in `folder`; a running one's stays."""
    for path in folder.glob('.*.*'):
        process = path.name.rpartition('.')[2]
        if process.isdecimal() and path.is_dir() and not _is_other_process(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _is_other_process(process: int) -> bool:
    """Whether a process of this number runs, other than this one."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process != os.getpid()
