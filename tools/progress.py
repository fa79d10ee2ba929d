# SPDX-License-Identifier: Apache-2.0
"""Run pip or colcon and show how far it is; usage: progress.py TITLE LOG COMMAND...

A terminal gets one line that is updated; other outputs get a line per large download and one per
half minute. The complete output goes to the file LOG. If the command fails, its last lines are
printed. Only the standard library is used, because nothing else is installed yet.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

LARGE_MB = 20.0  # downloads of this size get a line of their own
QUIET_S = 30.0  # interval of lines that say that the command still runs
REFRESH_S = 0.5
LAST_LINES = 30
UNITS = {'B': 1e-6, 'bytes': 1e-6, 'kB': 1e-3, 'MB': 1.0, 'GB': 1e3}
WHEEL = re.compile(r'\s*(Downloading|Using cached) (\S+?)(\.metadata)? \(([\d.]+) (\w+)\)')
RECEIVED = re.compile(r'Progress (\d+) of (\d+)')  # pip --progress-bar raw
COMPILED = re.compile(r'\[ *(\d+)%\]')  # CMake
RETRY = re.compile(r'WARNING: Retrying\b')


class Activity:
    """What the output of a command says that it is doing."""

    def __init__(self) -> None:
        self.text = ''
        self.packages = 0
        self.finished_mb = self.file_mb = 0.0
        self.part = 0.0

    def read(self, line: str) -> str:
        """Interpret a line and return a text that is worth a line of its own ('': none)."""
        if line.lstrip().startswith(('Collecting ', 'Processing ')):
            self._finish()
            self.packages += 1
            self.text = f'resolving {line.split()[1].rpartition("/")[2]}'
        elif (found := WHEEL.match(line)) and not found[3]:
            return self._begin(found[1], found[2], float(found[4]) * UNITS.get(found[5], 0.0))
        elif found := RECEIVED.match(line):
            self.part = int(found[1]) / max(int(found[2]), 1)
        elif line.startswith('Installing collected packages:'):
            self._finish()
            self.packages = line.count(',') + 1
            self.text = 'installing'
            return self.status()
        elif found := COMPILED.match(line):
            self.text = f'compiling, {found[1]}%'
        elif RETRY.match(line):
            return line.strip()
        return ''

    def _begin(self, how: str, name: str, size_mb: float) -> str:
        self._finish()
        self.file_mb = size_mb if how == 'Downloading' else 0.0
        size = f'{size_mb:.0f} MB' if size_mb >= 1.0 else 'less than 1 MB'
        self.text = f'{how.lower()} {"-".join(name.split("-")[:2])} ({size})'
        return self.text if self.file_mb >= LARGE_MB else ''

    def _finish(self) -> None:
        self.finished_mb += self.file_mb
        self.file_mb = self.part = 0.0

    def status(self) -> str:
        """Return the activity in one line."""
        parts = [self.text or 'starting']
        if self.file_mb and self.part:
            parts[0] += f' {self.part:.0%}'
        if self.packages:
            parts.append(f'packages: {self.packages}')
        if (received := self.finished_mb + self.file_mb * self.part) >= 1.0:
            parts.append(f'{received:.0f} MB received')
        return ', '.join(parts)


class Display:
    """Writes status and notes to stderr, as one line that changes or as few lines."""

    def __init__(self, title: str, status: Callable[[], str]) -> None:
        self._title, self._status = title, status
        self._is_terminal = sys.stderr.isatty()
        self._began_s = self._last_s = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Display:
        if not self._is_terminal:
            self._write(f'{self._title} ...\n')
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def note(self, text: str) -> None:
        """Print a line that stays."""
        with self._lock:
            self._last_s = time.monotonic()
            self._write(f'{self._erase()}  {self._elapsed()} {text}\n')

    def end(self, result: str) -> None:
        """Print the last line."""
        self._ended.set()
        with self._lock:
            self._write(
                f'{self._erase()}{self._title}: {result} after {self._elapsed().strip()}\n'
            )

    def _run(self) -> None:
        while not self._ended.wait(REFRESH_S):
            if self._is_terminal:
                with self._lock:
                    width = shutil.get_terminal_size().columns - 1
                    line = f'{self._title}: {self._elapsed().strip()}, {self._status()}'
                    self._write(f'{self._erase()}{line[:width]}')
            elif time.monotonic() - self._last_s > QUIET_S:
                self.note(self._status())

    def _erase(self) -> str:
        return '\r\033[K' if self._is_terminal else ''

    def _elapsed(self) -> str:
        return f'{time.monotonic() - self._began_s:4.0f} s'

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def run(title: str, log: Path, command: Sequence[str]) -> int:
    """Run a command with a progress display and return its exit status."""
    activity, last = Activity(), deque[str](maxlen=LAST_LINES)
    with (
        Display(title, activity.status) as display,
        log.open('w', encoding='utf-8') as stored,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if not RECEIVED.match(line):
                stored.write(line)
                last.append(line)
            if note := activity.read(line):
                display.note(note)
        status = process.wait()
        display.end('done' if status == 0 else 'FAILED')
    if status:
        sys.stderr.write(
            f'{"".join(last)}error: {title}: failed; the complete output is in {log}\n'
        )
    return status


if __name__ == '__main__':
    try:
        sys.exit(run(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
    except KeyboardInterrupt:
        sys.exit(130)
