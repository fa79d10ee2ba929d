# SPDX-License-Identifier: Apache-2.0
"""Atomic creation of folders: each is filled under a temporary name and then renamed.

The temporary name is `.<name>.<process id>`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vljepa_ros.core.errors import OutputError


@contextmanager
def appearing(final: Path) -> Iterator[Path]:
    """Context manager that yields a temporary folder and, on success, renames it to `final`.

    An existing folder `final` is replaced. On an error, the temporary folder is removed.

    Raises:
        OutputError: the folder cannot be written, for example because the disk is full.
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
            f'cannot write to {final.parent}: {error.strerror or error}; complete folders '
            'are kept: run the same command again to continue'
        ) from error
    finally:  # also after an interrupt
        shutil.rmtree(partial, ignore_errors=True)


def open_folder(folder: Path) -> None:
    """Create an output folder, and remove temporary folders of killed runs from it.

    Raises:
        OutputError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'cannot write to {folder}: {error.strerror or error}') from error
    remove_partial(folder)


def remove_partial(folder: Path) -> None:
    """Remove the temporary folders in `folder`, except those of other running processes."""
    for path in folder.glob('.*.*'):
        process = path.name.rpartition('.')[2]
        if process.isdecimal() and path.is_dir() and not _is_other_process(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _is_other_process(process: int) -> bool:
    """Return whether `process` is the id of a running process other than this one."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process != os.getpid()
