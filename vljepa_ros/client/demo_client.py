# SPDX-License-Identifier: Apache-2.0
"""Client of the demo: plays a bag losslessly to a running stack and prints events and answers.

Usage: `python -m vljepa_ros.client.demo_client BAG --questions FILE`. FILE is a JSON list of
{"at": seconds after the first image, "prompt": text, "candidates": [texts]}; each question is
asked at its time in the bag. The client waits until all nodes are active and prints one JSON
object per line: {"active": [...]}, {"event": {...}}, {"answer": {...}}, {"played": {...}}, with
times in integer nanoseconds. At the end, it deactivates change_detection_node, so that all streams
end.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import State as LifecycleState
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions

from vljepa_ros.client.bag_player import Player, PlayOptions
from vljepa_ros.core.errors import InputError, VljepaError
from vljepa_ros.core.exit_status import ExitStatus, command_status
from vljepa_ros.core.types import State
from vljepa_ros.msg import SemanticEmbedding, TextEvent
from vljepa_ros.nodes import conversions
from vljepa_ros.sources.bag import Bag
from vljepa_ros.sources.bag_images import stamp_of
from vljepa_ros.srv import Query

NODES = ('perception_node', 'change_detection_node', 'decoder_node', 'query_node')
QUIET_S = 1.0  # if no message arrives for this time, the stack has processed all frames
CALL_S = 30.0  # timeout of a service call


class DemoClient:
    """Plays a bag to the stack in `namespace` and calls `emit` with each result as a JSON object.

    `timeout_s`: maximum wait for the stack.
    """

    def __init__(
        self, bag: Bag, namespace: str, timeout_s: float, emit: Callable[[dict[str, Any]], None]
    ) -> None:
        self._space, self._timeout_s, self._emit, self._bag = namespace, timeout_s, emit, bag
        self._node = Node('demo_client', namespace=namespace)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._received_s = time.monotonic()
        self._open: set[tuple[str, int]] = set()
        deep = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._node.create_subscription(TextEvent, 'text_event', self._on_event, deep)
        self._node.create_subscription(
            SemanticEmbedding, 'semantic_embedding', self._on_embedding, 1000
        )
        self._query = self._node.create_client(Query, 'query')
        self.player = Player(
            self._node,
            self._spin,
            bag,
            PlayOptions(namespace=namespace, timeout_s=timeout_s),
            lambda line: print(line, file=sys.stderr),
        )

    def close(self) -> None:
        """Shut down the executor and destroy the node."""
        self._executor.shutdown()
        self._node.destroy_node()

    def run(self, questions: Sequence[dict[str, Any]]) -> None:
        """Play the bag, ask the questions and end the streams.

        Args:
            questions: Objects with `at` (s after the first image), `prompt` and `candidates`, in
                order of time.

        Raises:
            VljepaError: The bag cannot be played, the stack fails or does not respond, or a
                question is after the last image.
        """
        self._wait_for_stack()
        asked, began_s = list(questions), time.monotonic()
        start_ns: int | None = None
        for message in self.player.run():
            if not message.topic.is_image:
                continue
            stamp_ns = stamp_of(message.data)
            start_ns = stamp_ns if start_ns is None else start_ns
            while asked and stamp_ns - start_ns >= round(asked[0]['at'] * 1e9):
                self._ask(asked.pop(0))
        self._emit(
            {
                'played': {
                    'messages': self.player.sent,
                    'resent': self.player.resent,
                    'seconds': round(time.monotonic() - began_s, 3),
                }
            }
        )
        if asked:
            raise InputError(f'the question at {asked[0]["at"]:g} s is after the last image')
        self._end()

    def _wait_for_stack(self) -> None:
        deadline_s = time.monotonic() + self._timeout_s
        for name in NODES:
            client = self._node.create_client(GetState, f'{name}/get_state')
            while True:
                found = self._call(client, GetState.Request(), 5.0)
                if found and found.current_state.id == LifecycleState.PRIMARY_STATE_ACTIVE:
                    break
                if time.monotonic() > deadline_s:
                    state = found.current_state.label if found else 'not available'
                    raise InputError(
                        f'{name} is not active after {self._timeout_s:g} s (state: {state})'
                    )
                self._spin_for(0.1)
        self._emit({'active': list(NODES)})

    def _ask(self, question: dict[str, Any]) -> None:
        request = Query.Request(prompt=question['prompt'], candidates=question['candidates'])
        found = self._call(self._query, request, CALL_S)
        if found is None:
            raise InputError(f'the service query did not answer within {CALL_S:g} s')
        self._emit(
            {
                'answer': {
                    'prompt': question['prompt'],
                    'success': found.success,
                    'error_code': found.error_code,
                    'message': found.message,
                    'answer': found.answer,
                    'confidence': float(found.confidence),
                    'stamp_ns': conversions.to_ns(found.stamp),
                    'latency_ns': conversions.to_ns(found.latency),
                }
            }
        )

    def _end(self) -> None:
        """Deactivate change_detection_node after the last frame, and wait for the last events."""
        while time.monotonic() - self._received_s < QUIET_S:
            self._spin(0.05)
        client = self._node.create_client(ChangeState, 'change_detection_node/change_state')
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
        found = self._call(client, request, CALL_S)
        if found is None:
            raise InputError(f'change_detection_node did not answer within {CALL_S:g} s')
        if not found.success:
            raise InputError('change_detection_node refused to be deactivated: see its log')
        deadline_s = time.monotonic() + CALL_S
        while self._open or time.monotonic() - self._received_s < QUIET_S / 2:
            if time.monotonic() > deadline_s:
                raise InputError(f'{len(self._open)} segments did not end within {CALL_S:g} s')
            self._spin(0.05)

    def _call(self, client: Any, request: Any, timeout_s: float) -> Any:
        """Call a service and return its response, or None on timeout."""
        deadline_s = time.monotonic() + timeout_s
        while not client.service_is_ready():
            if time.monotonic() > deadline_s:
                return None
            self._spin(0.05)
        future = client.call_async(request)
        while not future.done():
            if time.monotonic() > deadline_s:
                client.remove_pending_request(future)
                return None
            self._spin(0.05)
        return future.result()

    def _spin(self, timeout_s: float) -> None:
        self._executor.spin_once(timeout_s)

    def _spin_for(self, duration_s: float) -> None:
        deadline_s = time.monotonic() + duration_s
        while time.monotonic() < deadline_s:
            self._spin(0.05)

    def _on_embedding(self, message: SemanticEmbedding) -> None:
        self._received_s = time.monotonic()

    def _on_event(self, message: TextEvent) -> None:
        self._received_s = time.monotonic()
        event = conversions.from_event_message(message)
        name = (repr(event.key), event.segment_id)
        if event.state is State.ENDED:
            self._open.discard(name)
        else:
            self._open.add(name)
        self._emit(
            {
                'event': {
                    'source': event.key.source,
                    'prompt': event.key.prompt,
                    'segment': event.segment_id,
                    'state': event.state.name,
                    'start_ns': event.start_ns,
                    'end_ns': event.end_ns,
                    'stamp_ns': event.stamp_ns,
                    'text': event.text,
                    'confidence': event.confidence,
                }
            }
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('bag', type=Path)
    parser.add_argument('--questions', type=Path)
    parser.add_argument('--namespace', default='vljepa')
    parser.add_argument('--timeout', type=float, default=120.0)
    args = parser.parse_args(arguments)
    questions = json.loads(args.questions.read_text()) if args.questions else []
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    client = DemoClient(Bag(args.bag), args.namespace, args.timeout, _print)
    try:
        client.run(sorted(questions, key=lambda question: question['at']))
    except VljepaError as error:
        print(f'demo_client: {error}', file=sys.stderr)
        return command_status(error)
    except (KeyboardInterrupt, BrokenPipeError):
        return ExitStatus.INTERRUPTED
    finally:
        client.close()
        rclpy.try_shutdown()
    return ExitStatus.OK


def _print(finding: dict[str, Any]) -> None:
    print(json.dumps(finding), flush=True)


if __name__ == '__main__':
    sys.exit(main())
