# SPDX-License-Identifier: Apache-2.0
"""What a run tells of itself: a progress bar, lines of JSON, and TensorBoard's event files.

The event files are written where the `tensorboard` package is installed (requirements/train.txt).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Log:
    """Notes figures; only the first of several processes writes."""

    def __init__(self, folder: Path, board: Path, writes: bool = True) -> None:
        self._path, self._writes = folder / 'log.jsonl', writes
        self._board = _board(board) if writes else None

    def note(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a stage at one of its steps."""
        if not self._writes:
            return
        shown = {key: float(f'{value:.5g}') for key, value in figures.items()}
        with self._path.open('a') as stream:
            stream.write(json.dumps({'stage': stage, 'step': step, **shown}) + '\n')
        log.info('%s %d: %s', stage, step, ' '.join(f'{k} {v:g}' for k, v in shown.items()))
        if self._board is not None:
            for key, value in figures.items():
                self._board.add_scalar(f'{stage}/{key}', value, step)
            self._board.flush()


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


@contextmanager
def progress(
    name: str, total: int, done: int = 0, shown: bool = True
) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(
        console=Console(stderr=True), disable=not (shown and sys.stderr.isatty())
    ) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
