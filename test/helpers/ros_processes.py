# SPDX-License-Identifier: Apache-2.0
"""Starts, monitors and kills the executables of the stack, and cleans up after them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from helpers import workers
from helpers.node_harness import eventually

from vljepa_ros.cli.ros_environment import environment_in
from vljepa_ros.nodes.launch_arguments import override_file

ROOT = Path(__file__).resolve().parents[2]
NODES = ('perception_node', 'change_detection_node', 'decoder_node', 'query_node')
STARTS_S = 120.0  # torch is imported: seconds on an idle machine


def executable(name: str) -> Path:
    """Return the path of an executable, installed or in the source tree."""
    installed = Path(sys.prefix) / 'lib' / 'vljepa_ros' / name
    return installed if installed.exists() else ROOT / 'scripts' / name


def state_of(task: Path) -> str:
    """Return the state of a process or thread, such as T or Z, by its folder in /proc."""
    return (task / 'stat').read_text().rpartition(')')[2].split()[0]  # proc_pid_stat(5)


class Process:
    """One running executable; `lines` is its output so far."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.popen = subprocess.Popen(
            [sys.executable, str(executable(name)), *arguments],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tempfile.gettempdir(),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.append(line.rstrip())

    def wait_for_line(self, text: str, timeout_s: float = STARTS_S, after: int = 0) -> str:
        """Wait for the first output line that contains a text."""

        def find() -> str | None:
            ended = self.popen.poll() is not None
            found = next((line for line in self.lines[after:] if text in line), None)
            assert found or not ended, f"ended before it printed '{text}'; printed: {self.lines}"
            return found

        return str(eventually(find, timeout_s, f"'{text}'; printed: {self.lines}"))

    def wait(self, timeout_s: float = STARTS_S) -> int:
        """Wait until the process ends and return its exit status."""
        status = self.popen.wait(timeout_s)
        self._reader.join(5)
        return status

    def interrupt(self) -> int:
        """Send SIGINT, as Ctrl-C does."""
        self.popen.send_signal(signal.SIGINT)
        return self.wait(60.0)

    def pause(self) -> None:
        """Suspend the process; it keeps its resources open.

        A busy machine may run its threads for a while after the signal was sent.
        """
        self.popen.send_signal(signal.SIGSTOP)
        eventually(self._is_stopped, 20.0, f'{self.popen.args} does not stop')

    def _is_stopped(self) -> bool:
        """Return whether all threads are in state T."""
        return all(
            state_of(task) == 'T' for task in Path(f'/proc/{self.popen.pid}/task').iterdir()
        )

    def resume(self) -> None:
        """Resume the suspended process."""
        self.popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL and remove the shared memory that it leaves behind."""
        left = self.own_segments()
        self.popen.kill()
        self.wait()
        for path in left:
            path.unlink(missing_ok=True)

    def own_segments(self) -> list[Path]:
        """Return the shared-memory segments of the process, by the lock files it holds open."""
        found: set[Path] = set()
        for link in Path(f'/proc/{self.popen.pid}/fd').iterdir():
            try:
                target = Path(os.readlink(link))
            except OSError:
                continue
            ours = target.name.endswith('_el') and '_port' not in target.name
            if target.parent == Path('/dev/shm') and ours:
                name = target.name.removesuffix('_el')
                found |= {target, target.with_name(name)}
        return sorted(found)


class RosProcesses:
    """All processes of a test module, in one domain."""

    def __init__(self, domain: int) -> None:
        self._environment = environment_in(domain, workers.participants())
        self._all: list[Process] = []
        self._files: list[Path] = []

    def start(self, name: str, namespace: str, values: dict[str, Any]) -> Process:
        """Start an executable with the package's parameter file, overridden by `values`."""
        over = override_file(values)
        self._files.append(over)
        made = Process(
            name,
            [
                '--ros-args',
                '-r',
                f'__ns:={namespace}',
                '--params-file',
                str(ROOT / 'config' / 'vljepa.yaml'),
                '--params-file',
                str(over),
            ],
            self._environment,
        )
        self._all.append(made)
        return made

    def close(self) -> None:
        """End all running processes."""
        running = [p for p in self._all if p.popen.poll() is None]
        for process in running:
            process.resume()
            process.popen.send_signal(signal.SIGINT)
        end_s = time.monotonic() + 20
        for process in running:
            try:
                process.wait(max(0.1, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        for path in self._files:
            path.unlink(missing_ok=True)


def play(domain: int, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `vljepa play` on a recording."""
    return subprocess.run(
        [sys.executable, '-m', 'vljepa_ros.cli.main', 'play', str(folder), *options],
        env=environment_in(domain, workers.participants()),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
