# SPDX-License-Identifier: Apache-2.0
"""Log of a training run: progress bar, JSON lines, and TensorBoard event files.

Event files are written if the `tensorboard` package is installed (requirements/train.txt).
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
    """Writes metrics to `folder`/log.jsonl, the program's log and TensorBoard files in `board`.

    With `writes` false, nothing is written; only one of several processes should write.
    """

    def __init__(self, folder: Path, board: Path, writes: bool = True) -> None:
        self._path, self._writes = folder / 'log.jsonl', writes
        self._board = _board(board) if writes else None

    def write(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Write the metrics of a training stage.

        Args:
            stage: Name of the stage.
            step: Number of finished steps of the stage.
            figures: Values by name of the metric.
        """
        if not self._writes:
            return
        rounded = {key: float(f'{value:.5g}') for key, value in figures.items()}
        with self._path.open('a') as stream:
            stream.write(json.dumps({'stage': stage, 'step': step, **rounded}) + '\n')
        log.info('%s %d: %s', stage, step, ' '.join(f'{k} {v:g}' for k, v in rounded.items()))
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
    """Return a context manager with a progress bar on stderr, shown only in a terminal.

    It yields a function that advances the bar by a number of steps.

    Args:
        name: Label of the bar.
        total: Total number of steps.
        done: Number of steps that are already finished.
        shown: Whether to show the bar at all.
    """
    from rich.console import Console
    from rich.progress import Progress

    with Progress(
        console=Console(stderr=True), disable=not (shown and sys.stderr.isatty())
    ) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
