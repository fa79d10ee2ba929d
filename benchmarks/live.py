# SPDX-License-Identifier: Apache-2.0
"""`python -m vljepa_ros.cli.ros_environment python benchmarks/live.py [--streams N] [--json]`.

Evaluate the suites vqa and calibrate with the running stack: perception and query are separate
processes, the frames of every moment are published as images, and every question is sent to the
`query` service. For comparison, the same questions are evaluated in this process, as by `vljepa
evaluate`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from common import run, show
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vljepa_ros.cli.common import add_model_arguments, load_model, progress
from vljepa_ros.cli.demo import params_file
from vljepa_ros.cli.main import Parser
from vljepa_ros.cli.stack_processes import StackProcesses, node_command
from vljepa_ros.client.planner_client import Client
from vljepa_ros.core.errors import BusyError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Answer
from vljepa_ros.data.format import open_split
from vljepa_ros.evaluate.balanced_questions import PARTS
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.graded_answers import KINDS, SENTENCES, Given, give, kind_of
from vljepa_ros.evaluate.probing import ask
from vljepa_ros.evaluate.questions import Posed, by_moment
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import mean
from vljepa_ros.evaluate.suites.calibrate import abstentions, confidences, pose_all
from vljepa_ros.evaluate.suites.vqa import grade, pose
from vljepa_ros.evaluate.views import window
from vljepa_ros.nodes import qos
from vljepa_ros.nodes.conversions import to_header, to_ns

NAMESPACE = 'live'
START_NS = 1_000_000_000_000
APART_NS = 60_000_000_000  # between two moments: long enough to cause a reset
RESEND_S, ATTEMPTS = 2.0, 10


def main() -> None:
    """Measure and print. Raises VljepaError."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        '--data', type=Path, default=Path('data/mwstream'), help='folder of the splits'
    )
    parser.add_argument(
        '--split', default='validation', help='split to evaluate (default: validation)'
    )
    parser.add_argument(
        '--streams', type=int, default=2, metavar='N', help='only the first N streams (0: all)'
    )
    add_model_arguments(parser)
    args = parser.parse_args()
    model = load_model(args, 'vision', 'language')
    streams = open_split(args.data / args.split).streams[: args.streams or None]
    context = Context(model, streams, progress)
    with Stack(args, model.facts) as stack:
        reports = [live_vqa(context, stack), live_calibrate(context, stack)]
    found = {report.suite: report.as_json() for report in reports}
    show(args, model.facts, found, '\n\n'.join(report.as_text() for report in reports))


# Suites.


def live_vqa(context: Context, stack: Stack) -> Report:
    """Evaluate live and offline accuracy, and their agreement."""
    posed = pose(context)
    answers = ask_service(context, stack, posed)
    offline = grade(context, posed)
    right = [float(a.answer == p.question.answer) for a, p in zip(answers, posed, strict=True)]
    rows = []
    for name, kinds in PARTS.items():
        part = [i for i, p in enumerate(posed) if p.question.kind in kinds]
        clusters = [posed[i].stream.name for i in part]
        for who, values in (('live', right), ('offline', [g.right['ours'] for g in offline])):
            rows.append(Row(who, name, mean(np.array(values)[part], clusters=clusters)))
    return Report('vqa', tuple(rows), (f'{len(posed)} questions sent to the service.',))


def live_calibrate(context: Context, stack: Stack) -> Report:
    """Evaluate live and offline confidences and abstentions, without captions (text events)."""
    posed = [p for p in pose_all(context) if kind_of(p) != SENTENCES]
    answers = ask_service(context, stack, posed)
    live = [given(context, p, a) for p, a in zip(posed, answers, strict=True)]
    offline = give(context, posed, ask(context, posed, 'answers'))
    rows = []
    for who, all_given in (('live', live), ('offline', offline)):
        for kind in KINDS:
            rows += confidences(who, kind, all_given)
        rows += abstentions(who, all_given)
    return Report('calibrate', tuple(rows), (f'{len(posed)} questions sent to the service.',))


def given(context: Context, posed: Posed, answer: Answer) -> Given:
    """Grade an answer of the service as the suite does."""
    question = posed.question
    right = (
        answer.answer == question.answer
        if question.candidates
        else context.concepts.expresses(question.meaning, answer.answer)
    )
    return Given(posed, answer.confidence, answer.abstained, right)


def ask_service(context: Context, stack: Stack, posed: Sequence[Posed]) -> list[Answer]:
    """Return the service's answers; each moment is published once, as in `evaluate.views`."""
    found: dict[int, Answer] = {}
    for rows in context.each(list(by_moment(posed).values()), 'live'):
        stream, questions = posed[rows[0]].stream, [posed[i].question for i in rows]
        frames = window(context.vision, stream, posed[rows[0]].at_s)
        stack.film(np.asarray(stream.frames()[frames]))
        later = [stack.client.query_later(q.prompt, q.candidates) for q in questions]
        found |= {i: future.result() for i, future in zip(rows, later, strict=True)}
    return [found[i] for i in range(len(posed))]


# Stack.


class Stack:
    """Perception and query nodes as processes, with a camera and a client."""

    def __init__(self, args: Namespace, facts: ModelFacts) -> None:
        self._args, self._facts = args, facts
        self._next_ns = START_NS

    def __enter__(self) -> Stack:
        self._logs = tempfile.TemporaryDirectory()
        self._processes = StackProcesses(dict(os.environ), Path(self._logs.name)).__enter__()
        values = {'model': self._args.model, 'device': 'cpu', 'threads': 1}
        for name in ('perception_node', 'query_node'):
            self._processes.start(name, node_command(name, NAMESPACE, values, params_file()))
        rclpy.init()
        self._node = rclpy.create_node('camera', namespace=NAMESPACE)
        self._pictures = self._node.create_publisher(Image, 'image', 10)
        self._seen_ns = 0
        self._node.create_subscription(Header, 'frame_processed', self._on_done, qos.PROCESSED)
        self.client = Client(NAMESPACE, timeout_s=120.0)
        self.client.search('anything')  # returns once the stack is active
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        rclpy.shutdown()
        self._processes.stop()
        self._logs.cleanup()

    def film(self, frames: np.ndarray[Any, Any]) -> None:
        """Publish RGB frames, each after the previous one was processed."""
        for frame in frames:
            self._show(frame)
            self._next_ns += self._facts.frame_period_ns
        self._next_ns += APART_NS

    def _show(self, frame: np.ndarray[Any, Any]) -> None:
        height, width, _ = frame.shape
        message = Image(
            header=to_header(self._next_ns, 'camera'),
            encoding='rgb8',
            height=height,
            width=width,
            step=3 * width,
            data=frame.tobytes(),
        )
        for _ in range(ATTEMPTS):  # the topic has best-effort reliability
            self._pictures.publish(message)
            until_s = time.monotonic() + RESEND_S
            while time.monotonic() < until_s:
                if self._seen_ns == self._next_ns:
                    return
                rclpy.spin_once(self._node, timeout_sec=0.05)
        raise BusyError('the perception node does not process images')

    def _on_done(self, message: Header) -> None:
        self._seen_ns = to_ns(message.stamp)


if __name__ == '__main__':
    sys.exit(run(main))
