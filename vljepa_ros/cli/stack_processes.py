# SPDX-License-Identifier: Apache-2.0
"""The stack as processes of its own: started, watched, and brought down whatever happens.

Each process leads a session, so that Ctrl-C reaches us alone; should we be killed, the kernel ends
them (Linux). What they say goes to log files.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vljepa_ros.core.errors import VljepaError

NODES = ('perception_node', 'change_detection_node', 'decoder_node', 'query_node')
GOODBYE_S = 10.0
TAIL_LINES = 15
PR_SET_PDEATHSIG = 1


class ProcessError(VljepaError):
    """A process that did not start, died, or took too long."""


class Processes:
    """A context: what was started in it has ended when it is left."""

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self._environment, self._logs = environment, logs
        self._running: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str], piped: bool = False) -> None:
        """Start a process; `piped`: its output is read by `lines`, only its errors are logged."""
        with (self._logs / f'{name}.log').open('w') as log:
            self._running[name] = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
                stdout=subprocess.PIPE if piped else log,
                text=True,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == 'linux' else None,
            )

    @property
    def names(self) -> list[str]:
        """In the order of their start."""
        return list(self._running)

    def process(self, name: str) -> subprocess.Popen[str]:
        """One of them."""
        return self._running[name]

    def tail(self, name: str) -> str:
        """The last lines of a log, to be put behind a message."""
        lines = (self._logs / f'{name}.log').read_text(errors='replace').splitlines()
        return ''.join(f'\n  {name}: {line}' for line in lines[-TAIL_LINES:])

    def stop(self) -> None:
        """Ask all to end, then make them."""
        for process in self._running.values():
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
        deadline_s = time.monotonic() + GOODBYE_S
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._running.clear()


def _end_with_parent() -> None:
    """In the child, before it becomes its program; that program may be started over itself."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def node_command(
    name: str, namespace: str, parameters: dict[str, object], params_file: Path | None = None
) -> list[str]:
    """How to start one node of the stack."""
    command = [sys.executable, str(executable(name)), '--ros-args', '-r', f'__ns:=/{namespace}']
    if params_file is not None:
        command += ['--params-file', str(params_file)]
    for key, value in parameters.items():
        command += ['-p', f'{key}:={value}']
    return command


def executable(name: str) -> Path:
    """A node's executable, as installed or beside the source. Raises ProcessError."""
    places = [
        Path(sys.prefix) / 'lib' / 'vljepa_ros',
        Path(__file__).resolve().parents[2] / 'scripts',
    ]
    for place in places:
        if (place / name).is_file():
            return place / name
    raise ProcessError(f'{name} is not installed (looked in {", ".join(map(str, places))})')


def stack_commands(
    namespace: str,
    model: str,
    topic: str,
    params_file: Path | None,
    device: str = 'cpu',
    threads: int = 1,
    dtype: str = 'float32',
) -> dict[str, list[str]]:
    """The four nodes, on one camera's compressed pictures."""
    found = {}
    for name in NODES:
        parameters: dict[str, object] = {}
        if name != 'change_detection_node':
            parameters |= {'model': model, 'device': device, 'dtype': dtype, 'threads': threads}
        if name == 'perception_node':
            parameters |= {
                'camera.topic': topic.removesuffix('/compressed'),
                'camera.transport': 'compressed',
            }
        found[name] = node_command(name, namespace, parameters, params_file)
    return found
