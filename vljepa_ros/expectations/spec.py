# SPDX-License-Identifier: Apache-2.0
"""Contents of an expectations file, which is YAML.

Times are seconds from the start of the recording, or MM:SS or HH:MM:SS with decimals. Each
expectation is a mapping with one key of `KINDS`, and optionally a `name`, a `camera`, and the
score or confidence `at_least` which a statement or answer must have.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import check_text
from vljepa_ros.query.question import Question

CLOCK = re.compile(r'(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)')
MAX_TIME_S = 1e7
MAX_EXPECTATIONS = 10_000
DEFAULT_SCORE = 0.5
KEYS = ('name', 'camera', 'at_least', 'recorded')  # keys of every expectation besides its kind
ROOT_KEYS = ('source', 'model', 'expectations')


@dataclass(frozen=True)
class Trigger:
    """The `number`-th message of a topic of the bag, as a point in time."""

    message: str
    number: int = 1

    def __post_init__(self) -> None:
        """Validate both fields."""
        check_text(self.message, 'message', may_be_empty=False)
        if self.number < 1:
            raise InputError(f'number ({self.number}) must be 1 or more')


Time = float | Trigger


@dataclass(frozen=True)
class Within:
    """A statement becomes or is true at a time from `after` to `seconds` later."""

    text: str
    after: Time
    seconds: float = 3.0


@dataclass(frozen=True)
class Throughout:
    """A statement is true all the time of a span; 0 as end: until the end of the recording."""

    text: str
    start: Time = 0.0
    end: Time = 0.0


@dataclass(frozen=True)
class Never:
    """A statement is never true in a span; 0 as end: until the end of the recording."""

    text: str
    start: Time = 0.0
    end: Time = 0.0


@dataclass(frozen=True)
class Order:
    """Statements become true one after another, in a span."""

    texts: tuple[str, ...]
    start: Time = 0.0
    end: Time = 0.0


@dataclass(frozen=True)
class Events:
    """Number of text events: at most, and at least, in the recording or per minute of it."""

    at_most: float = math.inf
    at_least: float = 0.0
    per_minute: bool = False


@dataclass(frozen=True)
class AnswerIs:
    """The answer to a question about a moment `at`, or about a span."""

    question: str
    answer: str
    candidates: tuple[str, ...] = ('yes', 'no')
    at: Time | None = None
    start: Time | None = None
    end: Time | None = None


Kind = Within | Throughout | Never | Order | Events | AnswerIs
KINDS: dict[str, type[Any]] = {
    'within': Within,
    'throughout': Throughout,
    'never': Never,
    'order': Order,
    'events': Events,
    'answer': AnswerIs,
}


@dataclass(frozen=True)
class Expectation:
    """One expectation.

    `line`: line in its file. `camera`: name of the camera; '' for the only one. `at_least`: score
    from which a statement counts as true, or lowest confidence of an answer. `recorded`: whether
    `--update` wrote the expectation, and may replace it.
    """

    kind: Kind
    name: str
    line: int = 0
    camera: str = ''
    at_least: float = DEFAULT_SCORE
    recorded: bool = False


@dataclass(frozen=True)
class Expectations:
    """Contents of an expectations file; `source` and `model` are used by the pytest plugin."""

    path: Path
    items: tuple[Expectation, ...]
    source: str = ''
    model: str = 'small'
    topics: tuple[str, ...] = field(default=(), compare=False)


def read_expectations(path: Path) -> Expectations:
    """Read an expectations file.

    Raises:
        InputError: The file is missing or invalid; the message names the line and the reason.
    """
    try:
        text = path.read_text(encoding='utf-8')
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        where = f', line {error.problem_mark.line + 1}' if error.problem_mark else ''
        raise InputError(f'{path}{where}: {error.problem}') from error
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f'{path}: {str(error).splitlines()[0]}') from error
    if not isinstance(values, dict) or not isinstance(values.get('expectations'), list):
        raise InputError(f"{path}: expected a mapping with the list 'expectations'")
    for key in values:
        if key not in ROOT_KEYS:
            raise InputError(f"{path}: unknown key '{key}' (known: {', '.join(ROOT_KEYS)})")
    rows = values['expectations']
    if not 1 <= len(rows) <= MAX_EXPECTATIONS:
        raise InputError(f'{path}: {len(rows)} expectations are not 1..{MAX_EXPECTATIONS:,}')
    lines = _lines(root)
    items = []
    for row, line in zip(rows, lines, strict=True):
        try:
            items.append(_expectation(row, line))
        except InputError as error:
            raise InputError(f'{path}, line {line}: {error}') from error
    topics = {time.message for item in items for time in times_of(item.kind)}
    source, model = (_text(values.get(key, default), key) for key, default in ROOT_DEFAULTS)
    return Expectations(path, tuple(items), source, model, tuple(sorted(topics)))


ROOT_DEFAULTS = (('source', ''), ('model', 'small'))


def times_of(kind: Kind) -> list[Trigger]:
    """Return the triggers among the times of an expectation."""
    values = (getattr(kind, item.name) for item in dataclasses.fields(kind))
    return [value for value in values if isinstance(value, Trigger)]


def _lines(root: Any) -> list[int]:
    """Return the line of each expectation in the file, from its composed YAML nodes."""
    for key, value in root.value:
        if key.value == 'expectations':
            return [item.start_mark.line + 1 for item in value.value]
    return []


def _expectation(row: Any, line: int) -> Expectation:
    if not isinstance(row, dict):
        raise InputError('an expectation is not a mapping')
    found = [key for key in row if key in KINDS]
    if len(found) != 1:
        raise InputError(f'an expectation needs exactly one of {", ".join(KINDS)}')
    for key in row:
        if key not in KINDS and key not in KEYS:
            known = ', '.join((*KINDS, *KEYS))
            raise InputError(f"unknown key '{key}' (known: {known})")
    [kind] = found
    parsed = _fields(KINDS[kind], row[kind], kind)
    _check(parsed)
    at_least = _number(row.get('at_least', DEFAULT_SCORE), 'at_least')
    if not 0 < at_least <= 1:
        raise InputError(f'at_least ({at_least:g}) must be above 0 and at most 1')
    recorded = row.get('recorded', False)
    if not isinstance(recorded, bool):
        raise InputError(f"'recorded' is not true or false: {recorded!r:.80}")
    name = _text(row.get('name', '') or describe(parsed), 'name')
    return Expectation(
        parsed, name, line, _text(row.get('camera', ''), 'camera'), at_least, recorded
    )


T = TypeVar('T')


def _fields(cls: type[T], values: Any, kind: str) -> T:
    """Build a dataclass of `KINDS` from parsed YAML."""
    if cls is Order and isinstance(values, list):
        values = {'texts': values}
    if cls is Never and isinstance(values, str):
        values = {'text': values}
    if not isinstance(values, dict):
        raise InputError(f"'{kind}' is not a mapping")
    hints = get_type_hints(cls)
    unknown = [key for key in values if key not in hints]
    if unknown:
        raise InputError(f"{kind}: unknown key '{unknown[0]}' (known: {', '.join(hints)})")
    missing = [
        item.name
        for item in dataclasses.fields(cls)  # type: ignore[arg-type]
        if item.default is dataclasses.MISSING and item.name not in values
    ]
    if missing:
        raise InputError(f"{kind}: the key '{missing[0]}' is missing")
    return cls(
        **{key: _converted(hints[key], value, f'{kind}.{key}') for key, value in values.items()}
    )


def _converted(hint: Any, value: Any, where: str) -> Any:
    if hint is str:
        return _text(value, where)
    if hint is float:
        return _number(value, where)
    if hint is bool:
        if not isinstance(value, bool):
            raise InputError(f'{where} is not true or false: {value!r:.80}')
        return value
    if hint == tuple[str, ...]:
        if not isinstance(value, list):
            raise InputError(f'{where} is not a list of texts: {value!r:.80}')
        return tuple(_text(item, where) for item in value)
    return _time(value, where)


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool):  # YAML reads yes and no as true and false
        return 'yes' if value else 'no'
    return check_text(value, where)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f'{where} is not a finite number: {value!r:.80}')
    if value < 0:
        raise InputError(f'{where} ({value:g}) is negative')
    return float(value)


def _time(value: Any, where: str) -> Time:
    if isinstance(value, dict):
        return _fields(Trigger, value, where) if 'message' in value else _no_trigger(where)
    clock = CLOCK.fullmatch(value) if isinstance(value, str) else None
    if clock:
        hours, minutes, seconds = clock.groups()
        value = 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds)
    seconds_s = _number(value, where)
    if seconds_s > MAX_TIME_S:
        raise InputError(f'{where} ({seconds_s:g} s) is more than {MAX_TIME_S:g} s')
    return seconds_s


def _no_trigger(where: str) -> Trigger:
    raise InputError(f"{where}: the key 'message' (a topic) is missing")


def _check(kind: Kind) -> None:
    """Raise InputError if the values of an expectation contradict each other."""
    for text in getattr(kind, 'texts', (getattr(kind, 'text', 'some'),)):
        check_text(text, 'text', may_be_empty=False)
    start, end = getattr(kind, 'start', None), getattr(kind, 'end', None)
    if isinstance(start, float) and isinstance(end, float) and 0 < end < start:
        raise InputError(f'end ({end:g} s) is before start ({start:g} s)')
    checks: Mapping[type[Any], Callable[[Any], None]] = {
        Order: _check_order,
        Events: _check_events,
        AnswerIs: _check_answer,
    }
    if type(kind) in checks:
        checks[type(kind)](kind)


def _check_order(kind: Order) -> None:
    if len(kind.texts) < 2:
        raise InputError('order needs at least two texts')


def _check_events(kind: Events) -> None:
    if kind.at_most < kind.at_least:
        raise InputError(f'at_most ({kind.at_most:g}) is below at_least ({kind.at_least:g})')
    if kind == Events(per_minute=kind.per_minute):
        raise InputError('events needs at_most or at_least')


def _check_answer(kind: AnswerIs) -> None:
    has_span = kind.start is not None or kind.end is not None
    if (kind.at is not None) == has_span:
        raise InputError("answer needs either 'at' (a moment), or 'start' and 'end' (a span)")
    Question(kind.question, kind.candidates).check()
    if kind.candidates and kind.answer not in kind.candidates:
        raise InputError(f"the answer '{kind.answer}' is not one of the candidates")


def describe(kind: Kind) -> str:
    """Return a one-line description of an expectation, which is its default name."""
    match kind:
        case Within():
            return f'within {kind.seconds:g} s of {_shown(kind.after)}: {kind.text}'
        case Throughout():
            return f'from {_shown(kind.start)} to {_shown(kind.end, "the end")}: {kind.text}'
        case Never():
            return f'never: {kind.text}'
        case Order():
            return f'in this order: {"; ".join(kind.texts)}'
        case Events():
            unit = 'events a minute' if kind.per_minute else 'events'
            low = f'at least {kind.at_least:g}' if kind.at_least else ''
            high = f'at most {kind.at_most:g}' if kind.at_most < math.inf else ''
            return f'{", ".join(filter(None, (low, high)))} {unit}'
        case AnswerIs():
            when = _shown(kind.at) if kind.at is not None else 'a span'
            return f"'{kind.question}' at {when}: {kind.answer}"


def _shown(time: Time | None, zero: str = '0 s') -> str:
    if isinstance(time, Trigger):
        return f'message {time.number} on {time.message}'
    return f'{time:g} s' if time else zero
