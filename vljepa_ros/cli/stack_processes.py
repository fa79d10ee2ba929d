# SPDX-License-Identifier: Apache-2.0
"""Child processes that run the nodes of the stack and end together with their parent.

Each child process leads its own session, so that Ctrl-C reaches only the parent. If the parent is
killed, the kernel terminates the children (on Linux). Their output is written to log files.
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
GOODBYE_S = 10.0  # maximum wait for interrupted processes before they are killed
TAIL_LINES = 15
PR_SET_PDEATHSIG = 1


class ProcessError(VljepaError):
    """A process could not be started, ended unexpectedly, or exceeded its time limit."""


class StackProcesses:
    """Context manager of child processes, which are stopped at the end of the context.

    `environment`: environment variables of the processes. `logs`: folder of their log files.
    """

    def __init__(self, environment: dict[str, str], logs: Path) -> None:
        self._environment, self._logs = environment, logs
        self._running: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> StackProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str], piped: bool = False) -> None:
        """Start a process.

        Args:
            name: Name of the process and of its log file.
            command: Program and arguments.
            piped: Whether to pipe stdout to this process; then only stderr is logged.
        """
        with (self._logs / f'{name}.log').open('w') as log:
            self._running[name] = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
                stdout=subprocess.PIPE if piped else log,
                text=True,
                start_new_session=True,
                preexec_fn=_prepare_child,
            )

    @property
    def names(self) -> list[str]:
        """Names of the started processes, oldest first."""
        return list(self._running)

    def process(self, name: str) -> subprocess.Popen[str]:
        """Return a started process by its name."""
        return self._running[name]

    def tail(self, name: str) -> str:
        """Return the last lines of the log file of a process, formatted for an error message."""
        lines = (self._logs / f'{name}.log').read_text(errors='replace').splitlines()
        return ''.join(f'\n  {name}: {line}' for line in lines[-TAIL_LINES:])

    def stop(self) -> None:
        """Send SIGINT to all processes, then kill the processes that do not end within 10 s."""
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


def _prepare_child() -> None:
    """Set up the signals of a child process; called before `exec`, which preserves the settings.

    SIGINT stops the child, although shells let background jobs ignore it. On Linux, the kernel
    sends SIGTERM to the child when its parent dies.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def node_command(
    name: str, namespace: str, parameters: dict[str, object], params_file: Path | None = None
) -> list[str]:
    """Return the command that starts one node of the stack.

    Args:
        name: Name of the executable, for example perception_node.
        namespace: ROS namespace, without leading slash.
        parameters: Parameter values by name.
        params_file: Parameter file; `parameters` override it.
    """
    command = [sys.executable, str(executable(name)), '--ros-args', '-r', f'__ns:=/{namespace}']
    if params_file is not None:
        command += ['--params-file', str(params_file)]
    for key, value in parameters.items():
        command += ['-p', f'{key}:={value}']
    return command


def executable(name: str) -> Path:
    """Return the path of a node's executable in the installation or the source tree.

    Raises:
        ProcessError: The executable does not exist.
    """
    places = [
        Path(sys.prefix) / 'lib' / 'vljepa_ros',
        Path(__file__).resolve().parents[2] / 'scripts',
    ]
    for place in places:
        if (place / name).is_file():
            return place / name
    raise ProcessError(f'{name} is not installed (searched {", ".join(map(str, places))})')


def stack_commands(
    namespace: str,
    model: str,
    topic: str,
    params_file: Path | None,
    device: str = 'cpu',
    threads: int = 1,
    dtype: str = 'float32',
) -> dict[str, list[str]]:
    """Return the commands that start the four nodes, by node name.

    Args:
        namespace: ROS namespace, without leading slash.
        model: Name or folder of the model.
        topic: Topic of the only camera, which publishes compressed images.
        params_file: Parameter file, or None.
        device: Device of the model.
        threads: CPU threads of each node.
        dtype: Compute dtype of the model.
    """
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
