# SPDX-License-Identifier: Apache-2.0
"""`vljepa demo`: run the stack on the sample bag as processes and evaluate the result.

The four nodes run as separate processes that communicate over DDS. A client plays the bag as fast
as the nodes can process it, and asks each question of the sample at its time in the bag. Text
events and answers are printed. The exit status is 0 if every question was answered and the targets
are met: for precision, recall, the difference in F1 to each baseline, and the fraction of correct
answers. Otherwise it is 1, also if the run of the stack exceeds its time limit.
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
from vljepa_ros.cli.stack_processes import ProcessError, StackProcesses, stack_commands
from vljepa_ros.core.errors import InputError, VljepaError
from vljepa_ros.core.exit_status import ExitStatus

if TYPE_CHECKING:
    from vljepa_ros.cli.event_grading import TextSpan, TimedQuestion, TrueEvent
    from vljepa_ros.core.protocols import Model
    from vljepa_ros.sources.bag import BagSource

NEEDED = 0.70  # target for precision and for recall
LEAD = 0.20  # target for the difference in F1 to each baseline
MOST = 0.65  # target for the fraction of correct answers
NAMESPACE = 'vljepa'
WRONG_PROMPT = 'Is the light on?'
LIMIT_S = 300.0  # time limit of the whole run of the stack
INTERRUPTED = 130
STATES = {'STARTED': 'starts', 'UPDATED': 'now', 'ENDED': 'ended'}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa demo`."""
    parser.add_argument(
        '--sample',
        type=common.path,
        default=None,
        metavar='DIR',
        help='a bag with ground_truth.json and questions.json, which the stack must process '
        f'within {LIMIT_S:g} s, its start included (default: the sample bag of the package)',
    )
    parser.add_argument(
        '--keep-logs',
        type=common.path,
        metavar='DIR',
        help='keep the logs of the processes in DIR',
    )
    common.add_model_arguments(parser)
    # With one thread per core in each process, the processes would slow each other down.
    parser.set_defaults(threads=1)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa demo` and return its exit status."""
    from vljepa_ros.cli import event_grading as grading

    sample = args.sample or sample_folder()
    annotations, questions = grading.read_true_events(sample), grading.read_questions(sample)
    settle(args)
    show = _print_nothing if args.json else _print
    # Exit by an exception on SIGTERM, so that the child processes are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitStatus.TERMINATED))
    began_s = time.monotonic()
    live = Live(questions, show)
    try:
        live.run(sample, args)
    except ProcessError as error:
        print(f'vljepa: the stack failed: {error}', file=sys.stderr)
        return ExitStatus.FAILED
    show('\nevaluating the same recording offline, and the baselines ...')
    report = evaluate(live, annotations, args, sample)
    report['seconds'] = round(time.monotonic() - began_s, 1)
    if args.json:
        common.print_json(report)
    else:
        summarise(report)
    return ExitStatus.OK if report['passed'] else ExitStatus.FAILED


def settle(args: argparse.Namespace) -> None:
    """Check the model arguments, and select one device for all processes (`args.device`).

    An error is reported here in one line; in a process of the stack, it would be in a log file.

    Raises:
        VljepaError: An argument is invalid.
    """
    from vljepa_ros.model import registry

    if args.threads < 0:
        raise InputError(f'--threads ({args.threads}) is negative')
    if args.dtype not in registry.DTYPES:
        raise InputError(f"unknown dtype '{args.dtype}' (known: {', '.join(registry.DTYPES)})")
    registry.read_config(registry.find(args.model))
    args.device = str(registry.pick_device(args.device))


def node_commands(args: argparse.Namespace, topic: str) -> dict[str, list[str]]:
    """Return the commands that start the four nodes, by node name.

    Args:
        args: Parsed arguments; the nodes use the same model as the offline comparison.
        topic: Image topic.
    """
    return stack_commands(
        NAMESPACE, args.model, topic, params_file(), args.device, args.threads, args.dtype
    )


def sample_folder() -> Path:
    """Return the folder samples/bench of the source tree or installation.

    Raises:
        InputError: The folder is not installed.
    """
    root = Path(__file__).resolve().parents[2]
    for place in (root, Path(sys.prefix) / 'share' / 'vljepa_ros'):
        if (place / 'samples' / 'bench' / 'metadata.yaml').is_file():
            return place / 'samples' / 'bench'
    raise InputError('the sample bag is not installed: pass the path of a bag with --sample')


def params_file() -> Path:
    """Return the path of the parameter file config/vljepa.yaml."""
    from vljepa_ros.cli.ros_environment import config_folder

    return config_folder() / 'vljepa.yaml'


def _print(line: str) -> None:
    print(line, flush=True)


def _print_nothing(line: str) -> None:
    del line


class Live:
    """One run of the stack on a sample bag; prints the results with `show` and collects them.

    `events`: text events. `answers`: each question with its response and whether the answer is
    correct. `played`: statistics of the playback. `start_ns`: start of the bag.
    """

    def __init__(self, questions: list[TimedQuestion], show: Any) -> None:
        self._pending, self._print = list(questions), show
        self.events: list[dict[str, Any]] = []
        self.answers: list[tuple[TimedQuestion, dict[str, Any], bool]] = []
        self.played: dict[str, Any] = {}
        self.start_ns = 0

    @property
    def spans(self) -> list[TextSpan]:
        """The ended segments with their final texts, in seconds from the start of the bag."""
        from vljepa_ros.cli.event_grading import TextSpan

        return [
            TextSpan(self._seconds(e['start_ns']), self._seconds(e['end_ns']), e['text'])
            for e in self.events
            if e['state'] == 'ENDED'
        ]

    @property
    def all_answered(self) -> bool:
        """Whether every question was asked and answered without an error, correctly or not."""
        return not self._pending and all(answer['success'] for _, answer, _ in self.answers)

    def run(self, sample: Path, args: argparse.Namespace) -> None:
        """Start the stack, play the bag, and collect events and answers.

        Args:
            sample: Folder of the sample bag with its questions.
            args: Parsed arguments of the command.

        Raises:
            InputError: The bag is invalid, or a question is after its last image.
            ProcessError: A process failed, or the run exceeded its time limit.
        """
        from vljepa_ros.cli.ros_environment import ros_environment
        from vljepa_ros.sources.bag import BagSource

        source = BagSource(sample)
        self.start_ns = source.start_ns
        topic, length_s = source.topics[0].name, self._seconds(_newest_stamp(source))
        late_s = self._pending[-1].at if self._pending else 0.0
        if late_s > length_s:
            raise InputError(
                f'{sample / "questions.json"}: the question at {late_s:g} s is after the last '
                f'image ({length_s:g} s)'
            )
        with (
            _folder(args.keep_logs) as logs,
            ros_environment() as environment,
            StackProcesses(environment, logs) as processes,
        ):
            domain = environment['ROS_DOMAIN_ID']
            self._print(f'starting the stack: 4 processes, ROS_DOMAIN_ID {domain}')
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
            self._print(f'playing {sample.name}: {topic}, {length_s:.0f} s')
            self._follow(processes)

    def _follow(self, processes: StackProcesses) -> None:
        """Read the results of the client until the client ends.

        Raises:
            ProcessError: A process failed, or the run exceeded its time limit.
        """
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
        what = f'demo_client ended with exit status {status}'
        if dead:
            what = f'{", ".join(dead)} ended unexpectedly'
        elif status == INTERRUPTED:
            what = f'demo_client did not finish within {LIMIT_S:g} s'
        raise ProcessError(what + ''.join(processes.tail(n) for n in dead or processes.names))

    @staticmethod
    def _watch(processes: StackProcesses, client: Any) -> None:
        """Interrupt the client if a node dies, because the client would wait for the node."""
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
            start_s, end_s = self._seconds(event['start_ns']), self._seconds(event['end_ns'])
            self._print(
                f'{start_s:7.2f} - {end_s:7.2f} s  '
                f'{state:6}  {event["text"]} ({event["confidence"]:.2f})'
            )
        elif 'answer' in finding:
            self._take_answer(finding['answer'])
        elif 'active' in finding:
            self._print('all nodes are active')
        elif 'played' in finding:
            self.played = finding['played']

    def _take_answer(self, answer: dict[str, Any]) -> None:
        question = self._pending.pop(0)
        right = answer['success'] and question.is_answered_by(answer['answer'])
        self.answers.append((question, answer, right))
        mark = 'correct' if right else f'incorrect, expected: {question.answer}'
        text = answer['answer'] if answer['success'] else answer['message']
        self._print(
            f'{question.at:7.2f} s  ? ({question.kind}) {question.prompt}\n'
            f'           ! {text} ({answer["confidence"]:.2f}) - {mark}'
        )

    def _seconds(self, stamp_ns: int) -> float:
        return common.seconds(stamp_ns, self.start_ns)


def _newest_stamp(source: BagSource) -> int:
    """Return the newest header stamp of the images of a bag."""
    from vljepa_ros.sources.bag_images import stamp_of

    return max(stamp_of(message.data) for message in source.bag.messages(source.topics))


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """Yield the folder for log files: `kept`, or a temporary folder that is deleted at the end."""
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


def evaluate(
    live: Live, annotations: list[TrueEvent], args: argparse.Namespace, sample: Path
) -> dict[str, Any]:
    """Return the report of a run: metrics of the model and baselines, and failed targets.

    Args:
        live: The finished run.
        annotations: Ground truth of the sample.
        args: Parsed arguments, which select the model of the offline comparison.
        sample: Folder of the sample bag.
    """
    from vljepa_ros.cli import event_grading as grading
    from vljepa_ros.core.settings import PerceptionSettings

    model = common.load_model(args)
    assert model.language is not None
    prompt = PerceptionSettings().prompts[0]
    offline, expectations = annotate(model, sample, (prompt, WRONG_PROMPT))
    metrics, spans = grading.grade(live.spans, annotations), live.spans
    baselines = {
        'constant answer': grading.constant_text_f1(spans, annotations, most_frequent_meaning()),
        'candidates only': grading.vision_blind_f1(spans, annotations, model.language, prompt),
        'prompt shuffled': grading.grade(offline[WRONG_PROMPT], annotations).f1,
    }
    asked, right = len(live.answers), sum(good for _, _, good in live.answers)
    passed = {
        'precision': metrics.precision >= NEEDED,
        'recall': metrics.recall >= NEEDED,
        **{name: metrics.f1 - f1 >= LEAD for name, f1 in baselines.items()},
        'answers': live.all_answered and right >= MOST * asked,
        'expectations': all(verdict == 'holds' for _, verdict in expectations),
    }
    return {
        'precision': metrics.precision,
        'recall': metrics.recall,
        'f1': metrics.f1,
        'matched': metrics.matched,
        'events': metrics.events,
        'annotations': metrics.annotations,
        'baselines': baselines,
        'answers_right': right,
        'answers': asked,
        'expectations': dict(expectations),
        'live_equals_offline': offline[prompt] == spans,
        'played': live.played,
        'model_id': model.facts.model_id,
        'device': model.facts.device,
        'dtype': model.facts.dtype,
        'failed': [name for name, good in passed.items() if not good],
        'passed': all(passed.values()),
    }


def annotate(
    model: Model, sample: Path, prompts: tuple[str, ...]
) -> tuple[dict[str, list[TextSpan]], list[tuple[str, str]]]:
    """Process the sample without ROS, and judge its expectations.

    Args:
        model: Model with both sides.
        sample: Folder of the sample bag; expectations.yaml in it is optional.
        prompts: Standing prompts; the first one is judged.

    Returns:
        The segments of each standing prompt, and the name and verdict of each expectation.
    """
    from vljepa_ros.cli.event_grading import TextSpan
    from vljepa_ros.core.settings import PerceptionSettings, Settings
    from vljepa_ros.expectations import Expectations, judge_all, read_expectations, watch
    from vljepa_ros.sources import open_source

    file = sample / 'expectations.yaml'
    expected = read_expectations(file) if file.is_file() else Expectations(file, ())
    source = open_source(sample)
    seen = watch(model, source, expected, Settings(PerceptionSettings(prompts=prompts)))
    found: dict[str, list[TextSpan]] = {prompt: [] for prompt in prompts}
    for event in seen.events:
        start = common.seconds(event.start_ns, source.start_ns)
        end = common.seconds(event.end_ns, source.start_ns)
        found[event.key.prompt].append(TextSpan(start, end, event.text))
    judged = judge_all(expected, seen)
    return found, [(result.expectation.name, result.verdict.value) for result in judged]


def most_frequent_meaning() -> str:
    """Return the most frequent concept in the training data of `small`; 'rest' if unknown."""
    from vljepa_ros.model import registry

    try:
        path = registry.find('small') / 'data_manifest.json'
        return str(json.loads(path.read_text())['train']['most_frequent_meaning'])
    except (VljepaError, OSError, ValueError, KeyError):
        return 'rest'


def summarise(report: dict[str, Any]) -> None:
    """Print the report of `evaluate` as a short text."""
    metrics: Any = report
    same = 'equals' if report['live_equals_offline'] else 'DIFFERS FROM'
    print(
        f'\nevents      {metrics["events"]} events, {metrics["annotations"]} annotations, '
        f'{metrics["matched"]} matched'
    )
    for name in ('precision', 'recall'):
        print(f'{name:11} {metrics[name]:.2f}  (target {NEEDED:.2f})')
    print(f'F1          {metrics["f1"]:.2f}')
    for name, f1 in report['baselines'].items():
        print(f'  {name:16} {f1:.2f}  (difference {metrics["f1"] - f1:+.2f}, target {LEAD:+.2f})')
    print(f'answers     {report["answers_right"]} of {report["answers"]} correct')
    verdicts = list(report['expectations'].values())
    print(f'expectations.yaml: {verdicts.count("holds")} of {len(verdicts)} expectations hold')
    print(
        f'the stack output {same} the vljepa annotate output; model {report["model_id"]}, '
        f'{report["device"]}, {report["dtype"]}, {report["seconds"]:.0f} s in total'
    )
    print('PASSED' if report['passed'] else f'FAILED: {", ".join(report["failed"])}')
