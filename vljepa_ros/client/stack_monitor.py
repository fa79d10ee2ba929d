# SPDX-License-Identifier: Apache-2.0
"""Monitor of a running stack for `vljepa top`: its messages, a view of them, and questions."""

from __future__ import annotations

import codecs
import os
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import rclpy
from rclpy.exceptions import InvalidNamespaceException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.validate_namespace import validate_namespace
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from vljepa_ros.client.planner_client import Client
from vljepa_ros.core.errors import InputError, VljepaError
from vljepa_ros.core.text import quoted
from vljepa_ros.core.types import Answer
from vljepa_ros.nodes.stack_listener import StackListener
from vljepa_ros.view import terminal

REFRESH_S = 0.25
ANSWERS_KEPT = 20
LONGEST_LINE = 1000  # characters of the prompt line


class PromptLine:
    """Line editor of bytes from a terminal: `typed` is the unfinished line."""

    def __init__(self) -> None:
        self.typed = ''
        self._decoder = codecs.getincrementaldecoder('utf-8')('replace')

    def feed(self, data: bytes) -> list[str]:
        """Process typed bytes and return the finished lines.

        Backspace and Ctrl-U edit the line. Escape sequences, such as arrow keys, are ignored.
        """
        finished = []
        for character in self._decoder.decode(data.partition(b'\x1b')[0]):
            if character in '\r\n':
                finished.append(self.typed.strip())
                self.typed = ''
            elif character in '\x7f\b':
                self.typed = self.typed[:-1]
            elif character == '\x15':
                self.typed = ''
            elif character.isprintable() and len(self.typed) < LONGEST_LINE:
                self.typed += character
        return [line for line in finished if line]


class StackMonitor:
    """Collects the messages of the stack in `namespace`; use it as a context manager."""

    def __init__(self, namespace: str) -> None:
        """Create the node.

        Raises:
            InputError: The namespace is invalid, or ROS cannot be started.
        """
        self.namespace = '/' + namespace.strip('/')
        try:
            validate_namespace(self.namespace)
            rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
            self._node = Node('vljepa_top', namespace=self.namespace)
        except InvalidNamespaceException as error:
            reason = str(error).splitlines()[0]  # the others repeat the name
            raise InputError(f"namespace '{quoted(namespace)}': {reason}") from error
        except RuntimeError as error:  # the base class of RCLError, which rclpy does not export
            rclpy.try_shutdown()
            raise InputError(f'rclpy cannot be initialized: {error}') from error
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._listener = StackListener(self._node, self._node.create_subscription)
        self._client: Client | None = None
        self._answers: deque[str] = deque(maxlen=ANSWERS_KEPT)
        self._asked: list[tuple[str, Future[Answer]]] = []

    def __enter__(self) -> StackMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown()

    @property
    def is_present(self) -> bool:
        """Whether any message of the stack has arrived."""
        state = self._listener.state
        return bool(state.nodes or state.streams)

    def spin(self, seconds: float) -> None:
        """Receive messages for some time."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(min(left_s, 0.1))

    def summary(self) -> dict[str, Any]:
        """Return the state of the stack as a JSON object."""
        return {'namespace': self.namespace} | self._listener.state.summary(time.monotonic())

    def print_once(self) -> None:
        """Print the state of the stack to stdout."""
        console = Console(highlight=False, markup=False)
        for line in self._lines(None, 24):
            if line.plain:
                console.print(line)

    def show(self) -> None:
        """Show the view, and answer typed questions, until KeyboardInterrupt."""
        console, prompt = Console(highlight=False, markup=False), PromptLine()
        reads = sys.stdin.isatty()
        with keys(reads), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                self.spin(REFRESH_S)
                while reads and select.select([sys.stdin], [], [], 0)[0]:
                    data = os.read(sys.stdin.fileno(), 4096)
                    reads = bool(data)
                    for line in prompt.feed(data):
                        self.ask(line)
                self._collect_answers()
                self._listener.state.forget_silent(time.monotonic())
                found = self._lines(prompt.typed if reads else None, console.height)
                live.update(Group(*found), refresh=True)  # each line is cut, not wrapped

    def ask(self, line: str) -> None:
        """Send a question to query_node; candidates follow after '|', a camera before ':'."""
        prompt, *candidates = (part.strip() for part in line.split('|'))
        source, colon, rest = prompt.partition(':')
        known = {key[0] for key in self._listener.state.streams}
        source, prompt = (source, rest.strip()) if colon and source in known else ('', prompt)
        if self._client is None:
            self._client = Client(self.namespace)
        future = self._client.query_later(prompt, [c for c in candidates if c], source)
        self._asked.append((prompt, future))

    def _collect_answers(self) -> None:
        for question, future in [item for item in self._asked if item[1].done()]:
            self._asked.remove((question, future))
            self._answers.append(f'{question} {_outcome(future)}')

    def _lines(self, typed: str | None, height: int) -> list[Text]:
        waiting = [f'{question} ...' for question, _ in self._asked]
        return terminal.lines(
            self._listener.state,
            self.namespace,
            time.monotonic(),
            [*self._answers, *waiting],
            typed,
            height,
        )


def _outcome(future: Future[Answer]) -> str:
    """Return the answer of a finished question, or its error, as text."""
    try:
        answer = future.result()
    except VljepaError as error:
        return f'error: {error}'
    if answer.abstained:
        return f'no answer ({answer.abstain_reason.name.lower()}) {answer.answer}'.strip()
    return f'{answer.answer} ({answer.confidence:.2f})'


@contextmanager
def keys(is_terminal: bool) -> Iterator[None]:
    """Receive each key of stdin at once, without echo; restore the terminal at the end."""
    if not is_terminal:
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
