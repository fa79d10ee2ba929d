# SPDX-License-Identifier: Apache-2.0
"""Entry points of the executables: one node per process, or all nodes in one process (`stack`).

Each node has its own executor and thread; the main thread waits for a signal. Signals are handled
here instead of in rclpy, so that after Ctrl-C the nodes can still publish the ends of their
streams. If a node cannot be activated, launch or systemd can read the kind of error from the exit
status (`vljepa_ros.core.exit_status`).
"""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

import rclpy
from rclpy.exceptions import NameValidationException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.exit_status import ExitStatus, node_status
from vljepa_ros.nodes.base import VljepaNode
from vljepa_ros.nodes.logs import forwarded
from vljepa_ros.nodes.model_requests import describe_error
from vljepa_ros.runtime.health import Level
from vljepa_ros.runtime.model_pool import ModelPool

GOODBYE_S = 8.0  # maximum wait for the nodes and model threads to end
LOOK_AGAIN_S = 0.5  # period at which the main thread checks for signals
LAST_WORDS_S = 0.1  # time for the middleware to deliver a node's last messages to the next one
# Signals that end the process -> exit status if its threads do not end in time.
SIGNALS = {signal.SIGINT: ExitStatus.INTERRUPTED, signal.SIGTERM: ExitStatus.TERMINATED}
# Errors of rclpy for invalid ROS arguments, for example an unreadable parameter file. RuntimeError
# is the base class of RCLError, which rclpy does not export.
INVALID_ARGUMENTS = (RuntimeError, NameValidationException)
RCL_SOURCE = re.compile(r', at [^,\s]*\.c(pp)?:\d+')
Factory = Callable[..., VljepaNode]
IN_USE: list[Spinner] = []  # not to be collected as garbage before the process exits


class Spinner:
    """Spins one node in its own thread; exceptions in callbacks are logged and do not end it."""

    def __init__(self, node: VljepaNode) -> None:
        self.node = node
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(node)
        self._stopping = False
        self._thread = threading.Thread(target=self._spin, name=node.get_name(), daemon=True)

    def start(self) -> None:
        """Start the thread that spins the node."""
        self._thread.start()

    def stop(self, deadline_s: float) -> bool:
        """Deactivate the node in its own executor, then end the thread.

        Args:
            deadline_s: Time limit on the clock of `time.monotonic`.

        Returns:
            Whether the node was deactivated and the thread ended in time.
        """
        task = self.executor.create_task(self.node.bring_down)
        while not (task.done() or task.cancelled()) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        ended = task.done()
        # A task ends the wait of `spin_once`; a wake-up alone does not.
        self.executor.create_task(self._end)
        self._thread.join(max(0.1, deadline_s - time.monotonic()))
        return ended and not self._thread.is_alive()

    def _end(self) -> None:
        self._stopping = True

    def _spin(self) -> None:
        while not self._stopping and self.executor.context.ok():
            try:
                self.executor.spin_once()
            except ExternalShutdownException:
                return
            except Exception as error:
                if self._stopping:
                    return
                self.node.report_problem('errors in callbacks', error, Level.ERROR)


def autostart(spinner: Spinner, failed: Callable[[Exception | None], None]) -> None:
    """Configure and activate a node as soon as it spins, if its parameter `autostart` is true.

    Args:
        spinner: Spinner of the node.
        failed: Called with the error (None if unknown) if the node cannot be activated.
    """
    node = spinner.node
    if not node.get_parameter('autostart').value:
        return

    async def bring_up() -> None:
        try:
            if not await node.bring_up():
                failed(node.transition_error)
        except Exception as error:
            node.get_logger().error(f'autostart failed: {describe_error(error)}')
            failed(error)

    spinner.executor.create_task(bring_up)


def run(factories: Sequence[Factory], args: Sequence[str] | None = None) -> int:
    """Run nodes until SIGINT or SIGTERM, or until a node cannot be activated.

    Args:
        factories: Functions that create a node from the model pool, in the order of shutdown.
        args: ROS arguments (None: the arguments of this process).

    Returns:
        The exit status: CONFIGURATION, and one line on stderr, if the ROS arguments are invalid;
        the status of the error if a node could not be activated. After a signal, OK if all threads
        ended in time, otherwise the status of the signal.
    """
    stop, failures, signals = threading.Event(), list[ExitStatus](), list[int]()

    def on_signal(number: int, _: object) -> None:
        signals.append(number)
        stop.set()

    for number in SIGNALS:
        signal.signal(number, on_signal)
    pool = ModelPool(shared=len(factories) > 1)
    try:
        rclpy.init(
            args=list(args) if args is not None else None,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        spinners = [Spinner(factory(pool)) for factory in factories]
    except (InputError, *INVALID_ARGUMENTS) as error:
        rclpy.try_shutdown()
        print(f'cannot start: {_one_line(error)}', file=sys.stderr)
        return ExitStatus.CONFIGURATION

    def failed(error: Exception | None) -> None:
        failures.append(node_status(error))
        stop.set()

    with forwarded(spinners[0].node.get_logger()):
        for spinner in spinners:
            spinner.start()
            autostart(spinner, failed)
        while not stop.wait(LOOK_AGAIN_S):
            pass  # a signal that another thread receives does not end the wait
        unfinished = _stop(spinners, pool)
    if unfinished:  # a thread that runs the model cannot be ended and still uses its node
        IN_USE.extend(spinners)
    else:
        for spinner in spinners:
            spinner.executor.shutdown(timeout_sec=0.5)
            spinner.node.destroy_node()
        rclpy.try_shutdown()
    if failures:
        return max(failures)  # a permanent failure of one node is permanent for the process
    return SIGNALS[signal.Signals(signals[0])] if unfinished and signals else ExitStatus.OK


def _one_line(error: Exception) -> str:
    """Return the message of an error without the source lines that rcl appends to it."""
    return ' '.join(RCL_SOURCE.sub('', str(error)).split())


def _stop(spinners: Sequence[Spinner], pool: ModelPool) -> list[str]:
    """Stop all nodes and model threads; log and return the names of threads still running."""
    deadline_s, unfinished = time.monotonic() + GOODBYE_S, list[str]()
    for spinner in spinners:
        if not spinner.stop(deadline_s):
            unfinished.append(spinner.node.get_name())
        if len(spinners) > 1:
            time.sleep(LAST_WORDS_S)
    if not pool.stop(max(0.1, deadline_s - time.monotonic())):
        unfinished.append('the model thread')
    if unfinished:
        spinners[0].node.get_logger().warning(
            f'{", ".join(unfinished)} did not end within {GOODBYE_S:g} s: exiting anyway; '
            'the last results may be missing'
        )
    return unfinished


def leave(status: int) -> NoReturn:
    """End the process immediately, because a regular exit waits seconds for torch to shut down."""
    gc.collect()  # releases the middleware's participant and its shared memory
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def perception() -> NoReturn:
    """Run perception_node until a signal, then exit the process."""
    from vljepa_ros.nodes.perception import PerceptionNode

    leave(run([PerceptionNode]))


def change_detection() -> NoReturn:
    """Run change_detection_node until a signal, then exit the process."""
    from vljepa_ros.nodes.change_detection import ChangeDetectionNode

    leave(run([ChangeDetectionNode]))


def decoder() -> NoReturn:
    """Run decoder_node until a signal, then exit the process."""
    from vljepa_ros.nodes.decoder import DecoderNode

    leave(run([DecoderNode]))


def query() -> NoReturn:
    """Run query_node until a signal, then exit the process."""
    from vljepa_ros.nodes.query import QueryNode

    leave(run([QueryNode]))


def view() -> NoReturn:
    """Run view_node until a signal, then exit the process."""
    from vljepa_ros.nodes.view import ViewNode

    leave(run([ViewNode]))


def stack() -> NoReturn:
    """Run all four nodes in this process until a signal, then exit the process."""
    from vljepa_ros.nodes.stack import factories

    leave(run(factories()))
