# SPDX-License-Identifier: Apache-2.0
"""`vljepa check SOURCE EXPECTATIONS`: judge a recording by a file of expectations.

Each expectation holds, is broken, or cannot be told. The exit status is 0 if all hold, 1 if one is
broken, and 3 if none is broken, but at least one cannot be told. docs/guide/bags_as_tests.md
describes the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError
from vljepa_ros.core.exit_status import ExitStatus

if TYPE_CHECKING:
    from pathlib import Path

    from vljepa_ros.core.types import Event
    from vljepa_ros.expectations.recording import Watched
    from vljepa_ros.expectations.results import Judged
    from vljepa_ros.sources import Source

SLACK_S = 1.5  # of the start of a recorded text, before and after
LINE = 120  # characters of a name that are printed
THUMBNAIL = 320  # longer side of an evidence picture, in pixels
EPILOG = """example:
  vljepa check samples/bench samples/bench/expectations.yaml --junit check.xml --evidence evidence
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa check`."""
    common.add_source_arguments(parser)
    parser.add_argument(
        'expectations', type=common.path, metavar='EXPECTATIONS', help='YAML file of expectations'
    )
    parser.add_argument(
        '--junit', type=common.path, metavar='FILE', help='write a JUnit report (XML) as well'
    )
    parser.add_argument(
        '--evidence',
        type=common.path,
        metavar='DIR',
        help='write a JPEG thumbnail for each expectation that does not hold',
    )
    parser.add_argument(
        '--update',
        action='store_true',
        help='write the text events of the recording to EXPECTATIONS, for review; expectations '
        'that you wrote are kept',
    )
    common.add_max_gap_argument(parser)
    common.add_model_arguments(parser)
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def run(args: argparse.Namespace) -> int:
    """Run `vljepa check` and return its exit status."""
    from vljepa_ros.core.settings import Settings
    from vljepa_ros.expectations.judge import judge_all
    from vljepa_ros.expectations.recording import watch
    from vljepa_ros.expectations.results import Verdict, junit
    from vljepa_ros.expectations.spec import Expectations, read_expectations

    path = args.expectations
    expected = Expectations(path, ())
    if not args.update or path.is_file():
        expected = read_expectations(path)
    source = common.open_given(args)
    settings = Settings(common.perception_settings(args))
    model = common.load_model(args)
    seen = watch(model, source, expected, settings, common.reported(source))
    if args.update:
        return update(expected, seen, source)
    results = judge_all(expected, seen)
    if args.evidence is not None:
        results = with_pictures(results, source, args.evidence)
    if args.junit is not None:
        args.junit.write_text(junit(source.name, results), encoding='utf-8')
    count = {verdict: sum(r.verdict is verdict for r in results) for verdict in Verdict}
    if args.json:
        common.print_json([as_json(result) for result in results])
    else:
        for result in results:
            print(as_line(result, path))
        print(
            f'{len(results)} expectations: {count[Verdict.HOLDS]} hold, '
            f'{count[Verdict.BROKEN]} broken, {count[Verdict.CANNOT_TELL]} cannot tell'
        )
    if count[Verdict.BROKEN]:
        return ExitStatus.FAILED
    return ExitStatus.UNDECIDED if count[Verdict.CANNOT_TELL] else ExitStatus.OK


def as_json(result: Judged) -> dict[str, Any]:
    """Return the JSON object of a result."""
    return {
        'name': result.expectation.name,
        'line': result.expectation.line,
        'verdict': result.verdict.value,
        'reason': result.reason,
        'source': result.camera,
        'start': result.start_s,
        'end': result.end_s,
        'score': result.score,
        **({'picture': str(result.picture)} if result.picture else {}),
    }


def as_line(result: Judged, path: Path) -> str:
    """Return a result as text: one line, and a second one unless it holds.

    Args:
        result: The result.
        path: File of the expectations.
    """
    from vljepa_ros.core.text import quoted
    from vljepa_ros.expectations.results import Verdict

    name, verdict = quoted(result.expectation.name, LINE), result.verdict.value
    line = f'{verdict:11}  {name}'
    if result.verdict is Verdict.HOLDS:
        return f'{line}  ({result.reason})'
    span = ''
    if result.start_s is not None:
        span = f'; see {result.start_s:.1f} - {result.end_s:.1f} s'
    picture = f', {result.picture}' if result.picture else ''
    return f'{line}\n             {path}:{result.expectation.line}: {result.reason}{span}{picture}'


def with_pictures(results: Sequence[Judged], source: Source, folder: Path) -> list[Judged]:
    """Write a thumbnail of each result that does not hold, and return the results with its path.

    The thumbnail shows the first frame at or after the middle of the evidence span.

    Args:
        results: The results.
        source: The recording, which is read again up to the last evidence.
        folder: Folder of the thumbnails; it is created.

    Raises:
        InputError: The folder or a file cannot be written.
    """
    import cv2

    from vljepa_ros.expectations.results import Verdict

    wanted: dict[int, tuple[str, float]] = {}
    for index, result in enumerate(results):
        if result.verdict is not Verdict.HOLDS and result.start_s is not None:
            assert result.end_s is not None
            wanted[index] = result.camera, (result.start_s + result.end_s) / 2
    found: dict[int, Path] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for frame in source if wanted else ():
        at_s = (frame.stamp_ns - source.start_ns) / 1e9
        due = [i for i, (camera, s) in wanted.items() if camera == frame.source and s <= at_s]
        for index in due:
            del wanted[index]
            scale = THUMBNAIL / max(frame.image.shape[:2])
            small = cv2.resize(frame.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            path = folder / f'line-{results[index].expectation.line:04}.jpg'
            if not cv2.imwrite(str(path), small[..., ::-1]):
                raise InputError(f'{path} cannot be written')
            found[index] = path
        if not wanted:
            break
    return [replace(result, picture=found.get(i)) for i, result in enumerate(results)]


def update(expected: Any, seen: Watched, source: Source) -> int:
    """Write the ended segments of a recording as expectations, after those that a person wrote.

    Args:
        expected: The expectations of the file; none if it does not exist.
        seen: The recording.
        source: Its source.

    Raises:
        InputError: The file cannot be written.
    """
    import yaml

    kept = _handwritten(expected)
    cameras = len(source.cameras) > 1
    rows = [recorded(event, source.start_ns, cameras) for event in seen.events if event.text]
    if not rows and not kept:
        raise InputError(f'{source.path}: there is no text event to record')
    head = kept or 'expectations:\n'
    body = yaml.safe_dump(rows, sort_keys=False, allow_unicode=True, width=110) if rows else ''
    try:
        expected.path.write_text(head + body, encoding='utf-8')
    except OSError as error:
        raise InputError(f'{expected.path}: {error.strerror}') from error
    common.note(f'{expected.path}: {len(rows)} expectations recorded, for review')
    return ExitStatus.OK


def _handwritten(expected: Any) -> str:
    """Return the text of an expectations file up to its first recorded expectation."""
    if not expected.items:
        return ''
    lines = expected.path.read_text(encoding='utf-8').splitlines(keepends=True)
    first = next((item.line for item in expected.items if item.recorded), len(lines) + 1)
    if any(not item.recorded and item.line > first for item in expected.items):
        raise InputError(
            f'{expected.path}: an expectation of yours is after the recorded ones (line {first}): '
            'move it before them, so that --update keeps it'
        )
    text = ''.join(lines[: first - 1])
    return text if text.endswith('\n') or not text else text + '\n'


def recorded(event: Event, start_ns: int, name_camera: bool) -> dict[str, Any]:
    """Return the expectation that a text event is reported again.

    Args:
        event: Ended segment with a text.
        start_ns: Start of the recording.
        name_camera: Whether the recording has several cameras.
    """
    start_s = (event.start_ns - start_ns) / 1e9
    after = max(0.0, start_s - SLACK_S)
    return {
        'within': {
            'text': event.text,
            'after': round(after, 1),
            'seconds': round(start_s + SLACK_S - after, 1),
        },
        **({'camera': event.key.source} if name_camera else {}),
        'recorded': True,
    }
