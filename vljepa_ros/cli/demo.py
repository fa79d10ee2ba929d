# SPDX-License-Identifier: Apache-2.0
"""`vljepa demo`: run the stack on the sample bag as processes, and grade the result.

Perception, change detection, decoder and query run as processes of their own over DDS; a client
plays the bag into them as fast as they can look, prints each text event as it comes, and asks
three questions at their times. Exit status 0: the marks of the events are met, every question is
answered and most of them right; 1: not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vljepa_ros.cli import common
from vljepa_ros.cli.stack_processes import ProcessError, Processes, stack_commands
from vljepa_ros.core.errors import InputError, VljepaError
from vljepa_ros.core.exit_status import ExitStatus

if TYPE_CHECKING:
    from vljepa_ros.cli.event_grading import Question, Said, Truth
    from vljepa_ros.core.protocols import Model

NEEDED = 0.70  # precision and recall
LEAD = 0.20  # of F1, over each baseline
MOST = 0.65  # of the answers
NAMESPACE = 'vljepa'
WRONG_PROMPT = 'Is the light on?'
LIMIT_S = 300.0  # of the whole run of the stack
INTERRUPTED = 130
STATES = {'STARTED': 'starts', 'UPDATED': 'now', 'ENDED': 'ended'}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        '--sample',
        type=Path,
        default=None,
        metavar='DIR',
        help='a bag with ground_truth.json and questions.json (default: the one '
        'that comes with the package)',
    )
    parser.add_argument(
        '--keep-logs', type=Path, metavar='DIR', help="keep the processes' logs here"
    )
    common.add_model_arguments(parser)
    # Processes that share few cores slow each other down by far when each has threads for all.
    parser.set_defaults(threads=1)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vljepa_ros.cli import event_grading as grading

    sample = args.sample or sample_folder()
    truths, questions = grading.read_truth(sample), grading.read_questions(sample)
    settle(args)
    say = _silent if args.json else _say
    # Whoever ends us ends the processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitStatus.TERMINATED))
    began_s = time.monotonic()
    live = Live(questions, say)
    try:
        live.run(sample, args)
    except ProcessError as error:
        print(f'vljepa: the stack failed: {error}', file=sys.stderr)
        return ExitStatus.FAILED
    say('\nbeside it: the same recording offline, and baselines ...')
    report = judge(live, truths, args, sample)
    report['seconds'] = round(time.monotonic() - began_s, 1)
    if args.json:
        common.print_json(report)
    else:
        summarise(report)
    return ExitStatus.OK if report['passed'] else ExitStatus.FAILED


def settle(args: argparse.Namespace) -> None:
    """Check what all processes will be given, and choose one device for them. Raises VljepaError.

    Here it is one line; from a process of the stack it would be the end of a log.
    """
    from vljepa_ros.model import registry

    if args.threads < 0:
        raise InputError(f'--threads ({args.threads}) is negative')
    if args.dtype not in registry.DTYPES:
        raise InputError(f"unknown dtype '{args.dtype}' (known: {', '.join(registry.DTYPES)})")
    registry.read_config(registry.find(args.model))
    args.device = str(registry.pick_device(args.device))


def node_commands(args: argparse.Namespace, topic: str) -> dict[str, list[str]]:
    """How to start the four nodes, with the model that the comparison loads, too."""
    return stack_commands(
        NAMESPACE, args.model, topic, params_file(), args.device, args.threads, args.dtype
    )


def sample_folder() -> Path:
    """samples/bench beside the source, or as installed. Raises InputError."""
    root = Path(__file__).resolve().parents[2]
    for place in (root, Path(sys.prefix) / 'share' / 'vljepa_ros'):
        if (place / 'samples' / 'bench' / 'metadata.yaml').is_file():
            return place / 'samples' / 'bench'
    raise InputError('the sample bag is not installed: name one with --sample')


def params_file() -> Path:
    """config/vljepa.yaml."""
    from vljepa_ros.cli.ros_environment import config_folder

    return config_folder() / 'vljepa.yaml'


def _say(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    del line


class Live:
    """One run of the stack; afterwards `said`, `answers` and `events` are what came of it."""

    def __init__(self, questions: list[Question], say: Any) -> None:
        self._pending, self._say = list(questions), say
        self.events: list[dict[str, Any]] = []
        self.answers: list[tuple[Question, dict[str, Any], bool]] = []
        self.played: dict[str, Any] = {}
        self.start_ns = 0

    @property
    def said(self) -> list[Said]:
        """The segments that have ended, in their final words."""
        from vljepa_ros.cli.event_grading import Said

        return [
            Said(self._s(e['start_ns']), self._s(e['end_ns']), e['text'])
            for e in self.events
            if e['state'] == 'ENDED'
        ]

    @property
    def all_answered(self) -> bool:
        """Whether `query` has answered every question, rightly or not."""
        return not self._pending and all(answer['success'] for _, answer, _ in self.answers)

    def run(self, sample: Path, args: argparse.Namespace) -> None:
        """Start the stack, play, hear, ask. Raises ProcessError."""
        from vljepa_ros.cli.ros_environment import ros_environment
        from vljepa_ros.sources.bag import BagSource

        source = BagSource(sample)
        self.start_ns = source.start_ns
        topic, length_s = source.topics[0].name, (source.total or 0) / 10
        with (
            _folder(args.keep_logs) as logs,
            ros_environment() as environment,
            Processes(environment, logs) as processes,
        ):
            domain = environment['ROS_DOMAIN_ID']
            self._say(f'starting the stack: 4 processes, ROS_DOMAIN_ID {domain}')
            for name, command in node_commands(args, topic).items():
                processes.start(name, command)
            processes.start(
                'demo_client',
                [
                    sys.executable,
                    '-m',
                    'vljepa_ros.client.demo_client',
                    str(sample),
                    '--questions',
                    str(sample / 'questions.json'),
                    '--namespace',
                    NAMESPACE,
                ],
                piped=True,
            )
            self._say(f'playing {sample.name}: {topic}, {length_s:g} s')
            self._follow(processes)

    def _follow(self, processes: Processes) -> None:
        """Read the client's findings to the end. Raises ProcessError."""
        client = processes.process('demo_client')
        late = threading.Timer(LIMIT_S, client.send_signal, [signal.SIGINT])
        watch = threading.Thread(target=self._watch, args=(processes, client), daemon=True)
        late.start()
        watch.start()
        try:
            assert client.stdout is not None
            for line in client.stdout:
                self._take(json.loads(line))
            status = client.wait()
        finally:
            late.cancel()
        if status == 0:
            return
        others = [name for name in processes.names if name != 'demo_client']
        dead = [n for n in others if processes.process(n).poll() is not None]
        what = f'the client ended with status {status}'
        if dead:
            what = f'{", ".join(dead)} ended'
        elif status == INTERRUPTED:
            what = f'not done after {LIMIT_S:g} s'
        raise ProcessError(what + ''.join(processes.tail(n) for n in dead or processes.names))

    @staticmethod
    def _watch(processes: Processes, client: Any) -> None:
        """End the client when a node dies: it would wait for it in vain."""
        nodes = [processes.process(name) for name in processes.names if name != 'demo_client']
        while client.poll() is None:
            if any(node.poll() is not None for node in nodes):
                client.send_signal(signal.SIGINT)
                return
            time.sleep(0.2)

    def _take(self, finding: dict[str, Any]) -> None:
        if 'event' in finding:
            event = finding['event']
            self.events.append(event)
            state = STATES[event['state']]
            self._say(
                f'{self._s(event["start_ns"]):7.2f} - {self._s(event["end_ns"]):7.2f} s  '
                f'{state:6}  {event["text"]} ({event["confidence"]:.2f})'
            )
        elif 'answer' in finding:
            self._take_answer(finding['answer'])
        elif 'active' in finding:
            self._say('all nodes are active')
        elif 'played' in finding:
            self.played = finding['played']

    def _take_answer(self, answer: dict[str, Any]) -> None:
        question = self._pending.pop(0)
        right = answer['success'] and question.is_answered_by(answer['answer'])
        self.answers.append((question, answer, right))
        mark = 'right' if right else f'wrong, it is: {question.answer}'
        text = answer['answer'] if answer['success'] else answer['message']
        self._say(
            f'{question.at:7.2f} s  ? ({question.kind}) {question.prompt}\n'
            f'           ! {text} ({answer["confidence"]:.2f}) - {mark}'
        )

    def _s(self, stamp_ns: int) -> float:
        return common.seconds(stamp_ns, self.start_ns)


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """Where logs go; a temporary folder goes away again."""
    if kept is not None:
        try:
            kept.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f'{kept}: {error.strerror}') from error
        yield kept
        return
    folder = Path(tempfile.mkdtemp(prefix='vljepa_demo_'))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def judge(
    live: Live, truths: list[Truth], args: argparse.Namespace, sample: Path
) -> dict[str, Any]:
    """Marks of the model and of the baselines, and whether all of it is enough."""
    from vljepa_ros.cli import event_grading as grading
    from vljepa_ros.core.settings import PerceptionSettings

    model = common.load_model(args)
    assert model.language is not None
    prompt = PerceptionSettings().prompts[0]
    offline = annotate(model, sample, (prompt, WRONG_PROMPT))
    marks, said = grading.grade(live.said, truths), live.said
    baselines = {
        'constant answer': grading.constant(said, truths, most_frequent_meaning()),
        'candidates only': grading.blind(said, truths, model.language, prompt),
        'prompt shuffled': grading.grade(offline[WRONG_PROMPT], truths).f1,
    }
    asked, right = len(live.answers), sum(good for _, _, good in live.answers)
    passed = {
        'precision': marks.precision >= NEEDED,
        'recall': marks.recall >= NEEDED,
        **{name: marks.f1 - f1 >= LEAD for name, f1 in baselines.items()},
        'answers': live.all_answered and right >= MOST * asked,
    }
    return {
        'precision': marks.precision,
        'recall': marks.recall,
        'f1': marks.f1,
        'matched': marks.matched,
        'events': marks.said,
        'annotations': marks.true,
        'baselines': baselines,
        'answers_right': right,
        'answers': asked,
        'live_equals_offline': offline[prompt] == said,
        'played': live.played,
        'model_id': model.facts.model_id,
        'device': model.facts.device,
        'dtype': model.facts.dtype,
        'failed': [name for name, good in passed.items() if not good],
        'passed': all(passed.values()),
    }


def annotate(model: Model, sample: Path, prompts: tuple[str, ...]) -> dict[str, list[Said]]:
    """The segments of each standing prompt, offline."""
    from vljepa_ros.cli import offline_run as watching
    from vljepa_ros.cli.event_grading import Said
    from vljepa_ros.core.settings import PerceptionSettings, Settings
    from vljepa_ros.core.types import State
    from vljepa_ros.pipeline import Pipeline
    from vljepa_ros.sources import open_source

    source = open_source(sample)
    found: dict[str, list[Said]] = {prompt: [] for prompt in prompts}
    pipeline = Pipeline(model, Settings(PerceptionSettings(prompts=prompts)))
    for event in watching.events(pipeline, source):
        if event.state is State.ENDED:
            start = common.seconds(event.start_ns, source.start_ns)
            end = common.seconds(event.end_ns, source.start_ns)
            found[event.key.prompt].append(Said(start, end, event.text))
    return found


def most_frequent_meaning() -> str:
    """Of the training data, as its manifest says; rests, where there is none."""
    from vljepa_ros.model import registry

    try:
        path = registry.find('small') / 'data_manifest.json'
        return str(json.loads(path.read_text())['train']['most_frequent_meaning'])
    except (VljepaError, OSError, ValueError, KeyError):
        return 'rest'


def summarise(report: dict[str, Any]) -> None:
    """The short summary."""
    marks: Any = report
    same = 'equals' if report['live_equals_offline'] else 'DIFFERS FROM'
    print(f"""
events      {marks['events']} said, {marks['annotations']} true, {marks['matched']} match
precision   {marks['precision']:.2f}  (needed {NEEDED:.2f})
recall      {marks['recall']:.2f}  (needed {NEEDED:.2f})
F1          {marks['f1']:.2f}""")
    for name, f1 in report['baselines'].items():
        print(f'  {name:16} {f1:.2f}  (lead {marks["f1"] - f1:+.2f}, needed {LEAD:+.2f})')
    print(f'answers     {report["answers_right"]} of {report["answers"]} right')
    print(
        f'the running stack {same} vljepa annotate; model {report["model_id"]}, '
        f'{report["device"]}, {report["dtype"]}, {report["seconds"]:.0f} s in all'
    )
    print('PASSED' if report['passed'] else f'FAILED: {", ".join(report["failed"])}')
