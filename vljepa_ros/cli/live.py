# SPDX-License-Identifier: Apache-2.0
"""`vljepa live SOURCE`: describe a camera while it runs, and answer typed questions about it.

SOURCE is a device (/dev/video0), an address (rtsp://..., http://...), a named pipe, '-' for the
standard input, or a recording, which is played at its speed. Every text event is printed when it
starts and when it ends. A question typed on the standard input is answered from what the camera
shows now: `what is there? | a cat | a dog` (candidates after '|' are optional).

Only the newest image waits for the model, so a slow machine skips images instead of falling
behind. When the stream of a camera ends or stalls, it is connected again, and the time without
images is printed and counted.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import threading
from collections import deque
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError, VljepaError
from vljepa_ros.core.exit_status import ExitStatus

if TYPE_CHECKING:
    from vljepa_ros.core.types import Answer, Event
    from vljepa_ros.pipeline import Pipeline
    from vljepa_ros.sources.live_reader import Gap, LiveFrame, LiveReader
    from vljepa_ros.sources.regions import RegionFrames

MAX_QUESTIONS = 16  # questions that wait; later ones are refused
LONGEST_LINE = 10_000  # characters of a question
EXAMPLES = """examples:
  vljepa live /dev/video0
  vljepa live rtsp://user:password@192.168.1.20/stream1 --crop door=0,0,0.4,1
  vljepa live http://robot.local:8080/stream.mjpg --json > events.jsonl
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa live`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument(
        'source',
        metavar='SOURCE',
        type=_source,
        help="a camera (/dev/video0, rtsp://..., http://...), a named pipe, '-' (stdin), or a "
        'recording: ' + common.SOURCE_HELP,
    )
    common.add_reading_arguments(parser)
    common.add_crop_argument(parser)
    common.add_prompt_argument(parser)
    common.add_max_gap_argument(parser)
    parser.add_argument(
        '--stall',
        type=_seconds,
        default=5.0,
        metavar='S',
        help='connect again after S seconds without an image (default: %(default)g)',
    )
    parser.add_argument(
        '--give-up',
        type=_seconds,
        default=0.0,
        metavar='S',
        help='exit with status 75 if the camera does not come back within S seconds (default: '
        'never)',
    )
    common.add_model_arguments(parser, live=True)


def _source(text: str) -> str:
    return str(common.path(text)) if '://' not in text else text


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from error
    if not math.isfinite(found) or not 0.1 <= found <= 86_400:
        raise argparse.ArgumentTypeError(f'{text} s is not in 0.1..86400')
    return found


def run(args: argparse.Namespace) -> int:
    """Run `vljepa live` and return its exit status."""
    from vljepa_ros.pipeline import Pipeline
    from vljepa_ros.sources.live_stream import STDIN, is_live
    from vljepa_ros.sources.regions import RegionFrames

    settings, regions = common.settings_of(args), common.regions_of(args)
    live = is_live(args.source)
    if live and (args.topic or args.fps):
        raise InputError('--topic and --fps apply to recordings only')
    args.model = args.model or common.default_model(live)
    wake = threading.Event()
    reader = _reader(args, live, wake)
    if live:
        reader.start()  # before the model is loaded, so that no old images wait in the connection
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitStatus.TERMINATED))
    try:
        pipeline = Pipeline(common.load_model(args), settings)
        session = Session(pipeline, reader, RegionFrames(regions, reader.cameras), live, args.json)
        questions = TypedQuestions(wake, sys.stdin if args.source != STDIN else None)
        if not live:
            reader.start()
        try:
            _run(session, reader, questions, wake)
        finally:
            session.finish()
    finally:
        reader.stop()
    if reader.error is not None:
        raise reader.error
    return 0


def _run(
    session: Session, reader: LiveReader, questions: TypedQuestions, wake: threading.Event
) -> None:
    """Process frames and questions as they arrive, until the source ends."""
    ended = False
    while not ended:
        wake.wait()
        wake.clear()
        ended = reader.ended
        for line in questions.take():
            session.answer(line)
        session.advance()


def _reader(args: argparse.Namespace, live: bool, wake: threading.Event) -> LiveReader:
    """Connect to the camera, or open the recording."""
    try:
        from vljepa_ros.sources.live_reader import CameraReader, PacedReader
    except ModuleNotFoundError as error:
        if error.name != 'av':
            raise
        raise InputError('live needs the Python package av: pip install av') from error
    if live:
        return CameraReader(args.source, wake.set, args.stall, args.give_up)
    from vljepa_ros.sources import open_source

    source = open_source(args.source, args.topic, args.fps)
    common.note_all(source)
    return PacedReader(source, wake.set)


class TypedQuestions:
    """Reads lines of the standard input in a thread; a bounded number of them waits."""

    def __init__(self, wake: threading.Event, stream: Any) -> None:
        """Start reading.

        Args:
            wake: Is set when a line arrives.
            stream: Text stream; None reads nothing.
        """
        self._wake, self._stream = wake, stream
        self._lines: deque[str] = deque()
        self._lock = threading.Lock()
        if stream is not None:
            threading.Thread(target=self._read, name='questions', daemon=True).start()

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
        return lines

    def _read(self) -> None:
        try:
            while line := self._stream.readline(LONGEST_LINE):
                self._add(line.strip())
        except (OSError, ValueError):  # the stream was closed
            return

    def _add(self, line: str) -> None:
        if not line:
            return
        with self._lock:
            full = len(self._lines) >= MAX_QUESTIONS
            if not full:
                self._lines.append(line)
        if full:
            common.note(f'{MAX_QUESTIONS} questions wait already: this one was not accepted')
        self._wake.set()


class Session:
    """Processes the frames and questions of a live source, and prints events and answers."""

    def __init__(
        self,
        pipeline: Pipeline,
        reader: LiveReader,
        regions: RegionFrames,
        live: bool,
        as_json: bool,
    ) -> None:
        """Create a session before the first frame.

        Args:
            pipeline: Pipeline without earlier frames.
            reader: Thread that reads the frames.
            regions: Regions of interest.
            live: Whether the stamps are times of the system's clock.
            as_json: Whether to print lines of JSON.
        """
        self._pipeline, self._reader, self._regions = pipeline, reader, regions
        self._live, self._as_json = live, as_json
        self._problems = common.SourceProblems(reader.start_ns)
        self._events = 0

    def advance(self) -> None:
        """Print notices, and process the newest frames."""
        from vljepa_ros.sources import Damaged

        notices, frames = self._reader.take()
        for notice in notices:
            if isinstance(notice, str):
                common.note(notice)
            elif isinstance(notice, Damaged):
                self._problems.damage(notice)
            else:
                self._show_gap(notice)
        for frame in frames:
            self._process(frame)

    def _process(self, live_frame: LiveFrame) -> None:
        for frame in self._regions.divide(live_frame.frame()):
            for event in self._pipeline.push(frame, live_frame.dropped):
                self._show_event(event)
            self._problems.stamp(frame.source, self._pipeline.last_message)

    def answer(self, line: str) -> None:
        """Answer a question, with candidates after '|'; a question that is invalid is named."""
        prompt, *candidates = (part.strip() for part in line.split('|'))
        source = ''
        name, colon, rest = prompt.partition(':')
        if colon and name in self._regions.sources:
            source, prompt = name, rest.strip()
        elif len(self._regions.sources) > 1:
            known = ', '.join(self._regions.sources)
            common.note(f"begin the question with a source, as in '{known}: ...'")
            return
        try:
            answer = self._pipeline.ask(prompt, [c for c in candidates if c], source)
        except VljepaError as error:
            common.note(str(error))
            return
        self._show_answer(prompt, source or self._regions.sources[0], answer)

    def finish(self) -> None:
        """Print the end of the open segments, and a summary."""
        for event in self._pipeline.finish():
            self._show_event(event)
        self._problems.close()
        reader = self._reader
        common.note(
            f'{reader.received} images, {reader.dropped} replaced by newer ones, '
            f'{reader.gaps} gaps, {self._events} events'
        )

    def _seconds(self, stamp_ns: int) -> float:
        return common.seconds(stamp_ns, self._reader.start_ns)

    def _time(self, stamp_ns: int) -> dict[str, str]:
        """Return the key `time` of a stamp, in UTC, if it is a time of the system's clock."""
        if not self._live:
            return {}
        moment = datetime.fromtimestamp(stamp_ns / 1e9, timezone.utc)
        return {'time': moment.isoformat(timespec='milliseconds')}

    def _at(self, stamp_ns: int) -> str:
        """Return a stamp for people: local time of a camera, seconds of a recording."""
        if self._live:
            return datetime.fromtimestamp(stamp_ns / 1e9).strftime('%H:%M:%S')
        return f'{self._seconds(stamp_ns):8.2f} s'

    def _show_event(self, event: Event) -> None:
        self._events += 1
        state = event.state.name.lower()
        if self._as_json:
            common.print_json(
                {
                    'type': 'event',
                    'state': state,
                    'source': event.key.source,
                    'segment': event.segment_id,
                    'start': self._seconds(event.start_ns),
                    'end': self._seconds(event.end_ns),
                    'text': event.text,
                    'confidence': float(event.confidence),
                    **self._time(event.stamp_ns),
                    **({'nearest': True} if event.nearest else {}),
                    **common.abstention(event.abstain_reason),
                }
            )
            return
        text = f'{event.text} ({event.confidence:.2f})'
        if event.abstained:
            text = f"(scene unfamiliar to model '{self._pipeline.model.facts.name}')"
        several = len(self._regions.sources) > 1
        source = f'{event.key.source}  ' if several else ''
        print(f'{self._at(event.stamp_ns)}  {source}{state:<7}  {text}', flush=True)

    def _show_answer(self, prompt: str, source: str, answer: Answer) -> None:
        if self._as_json:
            common.print_json(
                {
                    'type': 'answer',
                    'source': source,
                    'prompt': prompt,
                    'answer': answer.answer,
                    'confidence': float(answer.confidence),
                    'abstained': answer.abstained,
                    'ranked': [{'text': c.text, 'score': float(c.score)} for c in answer.ranked],
                    'stamp': self._seconds(answer.stamp_ns),
                    **self._time(answer.stamp_ns),
                    **common.abstention(answer.abstain_reason),
                    **({'message': answer.message} if answer.message else {}),
                }
            )
            return
        doubt = common.doubt(answer)
        print(
            f'{self._at(answer.stamp_ns)}  ? {prompt}  ! {answer.answer} '
            f'({answer.confidence:.2f}{doubt})',
            flush=True,
        )

    def _show_gap(self, gap: Gap) -> None:
        if self._as_json:
            common.print_json(
                {
                    'type': 'gap',
                    'start': self._seconds(gap.start_ns),
                    'end': self._seconds(gap.end_ns),
                    'number': gap.number,
                    'reason': gap.reason,
                    **self._time(gap.end_ns),
                }
            )
            return
        duration_s = (gap.end_ns - gap.start_ns) / common.SECOND_NS
        print(
            f'{self._at(gap.end_ns)}  gap of {duration_s:.1f} s (number {gap.number}): '
            f'{gap.reason}',
            flush=True,
        )
