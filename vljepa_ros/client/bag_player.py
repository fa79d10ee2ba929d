# SPDX-License-Identifier: Apache-2.0
"""Player that publishes a rosbag2 recording over ROS, together with /clock.

Serialized messages are published unmodified. Lossless playback publishes an image only after
perception_node has acknowledged the previous image on `frame_processed`. Because perception_node
subscribes to images with best-effort reliability, an image can be lost: it is published again if
no acknowledgement arrives within `RESEND_S`. If it was not lost, the node drops the repetition but
acknowledges it.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import rclpy
from rclpy.duration import Duration
from rclpy.exceptions import NameValidationException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import RAW
from vljepa_ros.nodes.conversions import to_ns, to_time
from vljepa_ros.sources.bag import Bag, BagMessage
from vljepa_ros.sources.bag_files import BagTopic
from vljepa_ros.sources.bag_images import stamp_of

CLOCK_S = 0.02  # period of /clock between two messages
LONGEST_PAUSE_NS = 3_600_000_000_000  # a longer pause of the recording is skipped
RESEND_S = 2.0
SETTLE_S = 0.5  # wait after the first subscriber, so that more subscribers are discovered
OURS = ('/clock', '/rosout', '/parameter_events')


@dataclass(frozen=True)
class PlayOptions:
    """Options of playback.

    `topics`: topics to play; empty for all topics whose message type is installed. `remap`:
    published name by topic of the bag. `namespace`: namespace of the nodes. `rate`: speed relative
    to the recording; 0 for lossless playback. `timeout_s`: maximum wait for subscribers and, in
    lossless playback, for each acknowledgement. `loop`: play the bag again and again.
    """

    topics: tuple[str, ...] = ()
    remap: dict[str, str] = field(default_factory=dict)
    namespace: str = 'vljepa'
    rate: float = 0.0
    timeout_s: float = 30.0
    loop: bool = False


class Player:
    """Publishes one bag from an existing node, which it spins by calling `spin(timeout_s)`.

    `sent`: number of published messages. `resent`: number of repetitions of images.
    """

    def __init__(
        self,
        node: Node,
        spin: Callable[[float], None],
        bag: Bag,
        options: PlayOptions,
        note: Callable[[str], None],
    ) -> None:
        self._node, self._spin, self._note = node, spin, note
        self._bag, self._options = bag, options
        self.sent = self.resent = 0
        self._publishers = {topic: self._publisher(topic) for topic in self._choose()}
        self._clock = node.create_publisher(Clock, '/clock', 10)
        self._processed: set[int] = set()
        space = options.namespace.strip('/')
        self._acknowledgements = f'/{space}/frame_processed' if space else '/frame_processed'
        # Volatile, because acknowledgements from before this subscription belong to another run.
        with _valid_name():
            node.create_subscription(
                Header, self._acknowledgements, self._on_processed, QoSProfile(depth=100)
            )

    @property
    def topics(self) -> tuple[BagTopic, ...]:
        """Topics of the bag that are published."""
        return tuple(self._publishers)

    def run(self) -> Iterator[BagMessage]:
        """Publish the bag and yield each message after it is published.

        In lossless playback, an image is yielded after the node has acknowledged it.

        Raises:
            InputError: The bag is damaged; its readable messages were published. In lossless
                playback also: no node subscribes to the images, or an image is not acknowledged
                in time.
        """
        yield from self._run_once()
        while self._options.loop:
            yield from self._run_once()

    def _run_once(self) -> Iterator[BagMessage]:
        awaited = self._wait_for_listeners()
        began_s, first_ns, before_ns = time.monotonic(), 0, 0
        for message in self._bag.messages(self.topics):
            first_ns = first_ns or message.log_ns
            if before_ns and message.log_ns - before_ns > LONGEST_PAUSE_NS:
                skipped_ns = message.log_ns - before_ns
                first_ns += skipped_ns
                self._note(
                    f'recording times jump by {skipped_ns / 1e9:,.0f} s (was the clock set?): '
                    'playing on without this pause'
                )
            before_ns = message.log_ns
            if self._options.rate:
                self._pace(began_s, first_ns, message.log_ns)
            self._clock.publish(Clock(clock=to_time(message.log_ns)))
            if message.topic in awaited:
                self._send_and_wait(message)
            else:
                self._publishers[message.topic].publish(message.data)
                self._spin(0.0)
            self.sent += 1
            yield message
        for publisher in self._publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=1.0))

    def _choose(self) -> list[BagTopic]:
        known = {topic.name: topic for topic in self._bag.topics}
        for name in (*self._options.topics, *self._options.remap):
            if name not in known:
                listed = ', '.join(known)
                raise InputError(f"{self._bag.path}: no topic '{name}' (topics: {listed})")
        chosen = [known[n] for n in self._options.topics] or [
            t for t in self._bag.topics if t.name not in OURS and t.count
        ]
        found = [topic for topic in chosen if message_type(topic.type) is not None]
        for topic in chosen:
            if topic not in found:
                self._note(f'skipping {topic.name}: type {topic.type} is not installed')
        if not found:
            raise InputError(f'{self._bag.path}: no topic has an installed message type')
        if not self._options.rate and not any(topic.is_image for topic in found):
            raise InputError(
                f'{self._bag.path}: no image topic to wait for: use --rate instead of --lossless'
            )
        return found

    def _publisher(self, topic: BagTopic) -> Any:
        # Deep enough for a slow subscriber; less deep for raw images, which take much memory.
        depth = 10 if topic.type == RAW else 100
        profile = QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)
        if topic.latched:
            profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
        name = self._options.remap.get(topic.name, topic.name)
        with _valid_name():
            return self._node.create_publisher(message_type(topic.type), name, profile)

    def _wait_for_listeners(self) -> set[BagTopic]:
        """Wait for subscribers; return the image topics whose images must be acknowledged.

        These are the image topics with a subscriber in lossless playback, and none at a rate.
        """
        images = [topic for topic in self.topics if topic.is_image]
        lossless = not self._options.rate

        def listened() -> set[BagTopic]:
            return {t for t in images if self._publishers[t].get_subscription_count()}

        def ready() -> bool:
            stack = self._node.count_publishers(self._acknowledgements)
            return bool(listened()) and bool(stack or not lossless)

        names = ', '.join(self._options.remap.get(t.name, t.name) for t in images)
        if not self.wait_until(ready, self._options.timeout_s):
            if not images:
                return set()
            if not lossless:
                self._note(f'{names} has no subscriber')
                return set()
            missing = f'{self._acknowledgements} has no publisher'
            if not listened():
                missing = f'{names} has no subscriber, or {missing},'
            raise InputError(
                f'{missing} after {self._options.timeout_s:g} s: '
                'check that the stack is active and subscribes to the same topic'
            )
        self.wait_until(lambda: False, SETTLE_S)
        found = listened()
        for topic in images:
            if topic not in found:
                self._note(f'{topic.name} has no subscriber')
        return found if lossless else set()

    def _send_and_wait(self, message: BagMessage) -> None:
        stamp_ns = stamp_of(message.data)
        self._processed.clear()
        deadline_s = time.monotonic() + self._options.timeout_s
        publisher = self._publishers[message.topic]
        publisher.publish(message.data)
        while not self.wait_until(lambda: stamp_ns in self._processed, RESEND_S):
            if time.monotonic() >= deadline_s:
                raise InputError(
                    f'{message.topic.name}: the stack did not acknowledge the image with stamp '
                    f'{stamp_ns / 1e9:.3f} s on {self._acknowledgements} within '
                    f'{self._options.timeout_s:g} s'
                )
            self.resent += 1
            publisher.publish(message.data)

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Spin the node until `ready()` is true; return whether it was true before the timeout."""
        deadline_s = time.monotonic() + timeout_s
        while not ready():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            self._spin(min(left_s, 0.05))
        return True

    def _pace(self, began_s: float, first_ns: int, log_ns: int) -> None:
        """Wait until a message is due at the playback rate, and publish /clock in the meantime.

        Args:
            began_s: Start of playback on the clock of `time.monotonic`.
            first_ns: Recording time of the first message.
            log_ns: Recording time of this message.
        """
        due_s = began_s + (log_ns - first_ns) / 1e9 / self._options.rate
        while (left_s := due_s - time.monotonic()) > 0:
            if left_s > CLOCK_S:
                passed_ns = log_ns - round(left_s * 1e9 * self._options.rate)
                self._clock.publish(Clock(clock=to_time(passed_ns)))
            step_s = time.monotonic() + min(left_s, CLOCK_S)
            while (rest_s := step_s - time.monotonic()) > 0:
                self._spin(rest_s)

    def _on_processed(self, message: Header) -> None:
        self._processed.add(to_ns(message.stamp))


def play(bag: Bag, options: PlayOptions, note: Callable[[str], None]) -> dict[str, Any]:
    """Play a whole bag from a new node and return statistics of the playback.

    With `loop`, it plays until KeyboardInterrupt.

    Args:
        bag: Bag to play.
        options: Options of playback.
        note: Called with each warning, one line of text.

    Returns:
        Numbers of messages, topics and repeated images (`resent`), and the duration in seconds.

    Raises:
        InputError: ROS does not start, or the bag cannot be played with these options.
    """
    node = _start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    began_s = time.monotonic()
    try:
        player = Player(node, executor.spin_once, bag, options, note)
        for _ in player.run():
            pass
        return {
            'messages': player.sent,
            'topics': len(player.topics),
            'resent': player.resent,
            'seconds': round(time.monotonic() - began_s, 3),
        }
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def _start() -> Node:
    """Initialize rclpy and create a node. Raises InputError if ROS cannot be started."""
    try:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        return Node('vljepa_play')
    except RuntimeError as error:  # the base class of RCLError, which rclpy does not export
        rclpy.try_shutdown()
        raise InputError(f'rclpy cannot be initialized: {error}') from error


@contextmanager
def _valid_name() -> Iterator[None]:
    """Convert an rclpy error about an invalid topic name to an InputError of one line."""
    try:
        yield
    except (NameValidationException, ValueError) as error:
        # NameValidationException has three lines; the last is a caret below the name.
        line = ' '.join(part.strip() for part in str(error).splitlines()[:2])
        raise InputError(line) from error


def message_type(name: str) -> Any:
    """Return the class of a message type such as std_msgs/msg/Header; None if not installed."""
    package, _, rest = name.partition('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), rest.rpartition('/')[2], None)
    except ImportError:
        return None
