# SPDX-License-Identifier: Apache-2.0
"""Memory: retention, search and recall."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from helpers.fake_models import COLORS, FakeLanguage, color_vector

from vljepa_ros.core.errors import InputError, ModelMismatchError
from vljepa_ros.core.settings import MemorySettings
from vljepa_ros.core.types import (
    Change,
    Embedding,
    Event,
    Reason,
    Segment,
    State,
    StreamKey,
)
from vljepa_ros.memory.embedding_memory import HOP_BYTES, SEGMENT_BYTES, Memory

S = 1_000_000_000


def key(prompt: str = 'What?', source: str = 'camera', model_id: str = 'm') -> StreamKey:
    return StreamKey(source, prompt, model_id)


def hop(second: float, color: str = 'red', of: StreamKey | None = None) -> Embedding:
    stamp_ns = round(second * S)
    return Embedding(stamp_ns, stamp_ns - S, of or key(), color_vector(color))


def change(
    second: int,
    number: int,
    color: str = 'red',
    before: tuple[int, int, str] | None = None,
    reason: Reason = Reason.MEANING,
    of: StreamKey | None = None,
) -> Change:
    """Return the start of segment `number`; `before`: start, end, color of the previous one."""
    previous = before and Segment(number - 1, before[0] * S, before[1] * S)
    return Change(
        second * S,
        of or key(),
        's',
        number,
        second * S,
        1.0,
        reason,
        color_vector(color),
        previous,
        color_vector(before[2]) if before else None,
    )


def end(start: int, stop: int, number: int, color: str = 'red') -> Change:
    segment = Segment(number, start * S, stop * S)
    vector = color_vector(color)
    return Change(
        stop * S, key(), 's', number, start * S, 0.0, Reason.END, vector, segment, vector
    )


def text_event(number: int, text: str, of: StreamKey | None = None) -> Event:
    return Event(0, of or key(), 's', number, 0, 0, State.ENDED, text, 1.0)


def spans(memory: Memory, text: str = 'red', **fields: object) -> list[tuple[float, float]]:
    found = memory.search(FakeLanguage(), text, **fields)  # type: ignore[arg-type]
    return [(moment.start_ns / S, moment.end_ns / S) for moment in found]


def recalled(
    memory: Memory, start: int = 0, stop: int = 0, prompt: str = ''
) -> list[tuple[int, int, list[str]]]:
    """Return start, end and color of each part of a span."""
    found = memory.recall('', start * S, stop * S, prompt)
    assert found is not None
    return [
        (
            seen.start_ns // S,
            seen.end_ns // S,
            [c for c in COLORS if np.allclose(seen.vector, color_vector(c), atol=1e-6)],
        )
        for seen in found.seen
    ]


def bytes_of(hops: int, segments: int = 0) -> int:
    """Return the size of a memory of 8-dimensional vectors in bytes."""
    return hops * (4 * 8 + HOP_BYTES) + segments * (8 * 8 + SEGMENT_BYTES)


def recalled_prompt(memory: Memory, prompt: str) -> str:
    """Return the prompt of the stream that answers a question; `prompt` if it is stored."""
    found = memory.recall('', 0, 0, prompt)
    assert found is not None
    return found.prompt


# Retention.


def test_segments_older_than_the_retention_time_are_deleted() -> None:
    memory = Memory('m', MemorySettings(kept_s=10.0))
    memory.change(change(0, 0, reason=Reason.FIRST))
    memory.change(change(4, 1, before=(0, 4, 'red')))
    memory.change(change(8, 2, before=(4, 8, 'red')))
    for second in range(16):
        memory.record(hop(second))
    assert spans(memory) == [(4, 7), (8, 15)]  # 15 - 10 = 5: the first ended before that
    assert recalled(memory)[0][:2] == (5, 7)


def test_an_open_segment_longer_than_the_retention_time_is_kept() -> None:
    memory = Memory('m', MemorySettings(kept_s=5.0))
    memory.change(change(0, 0, reason=Reason.FIRST))
    memory.change(change(0, 0, reason=Reason.FIRST, of=key('Other?')))
    for second in range(20):
        memory.record(hop(second))
        memory.record(hop(second, of=key('Other?')))
    memory.change(change(20, 1, before=(0, 20, 'red'), of=key('Other?')))
    assert (0, 19) in spans(memory)


def test_streams_of_removed_prompts_are_deleted_after_the_retention_time() -> None:
    memory = Memory('m', MemorySettings(kept_s=10.0))
    memory.record(hop(0, of=key('Old?')))
    memory.change(change(0, 0, reason=Reason.FIRST, of=key('Old?')))
    memory.record(hop(5))
    assert recalled_prompt(memory, 'Old?') == 'Old?' and memory.held_bytes >= bytes_of(2)
    memory.record(hop(11))
    assert recalled_prompt(memory, 'Old?') == 'What?' and memory.held_bytes == bytes_of(2)


def test_stamps_of_another_camera_do_not_delete_data() -> None:
    memory = Memory('m', MemorySettings(kept_s=10.0))
    memory.record(hop(0, of=key(source='front')))
    memory.record(hop(100, of=key(source='rear')))
    assert memory.sources == ('front', 'rear')


# Stamps that go back.


def test_a_looping_bag_deletes_later_data() -> None:
    memory = Memory('m')
    both = [key(), key('Other?')]
    for second in range(20):
        for of in both:
            memory.record(hop(second, of=of))
    for of in both:
        memory.change(change(0, 0, reason=Reason.FIRST, of=of))
        memory.change(change(10, 1, 'blue', before=(0, 10, 'red'), of=of))
    for second in range(12):
        for of in both:
            memory.record(hop(second, of=of))
            if second == 0:
                reset = change(0, 2, before=(10, 19, 'blue'), reason=Reason.RESET, of=of)
                memory.change(reset)
    assert spans(memory) == [(0, 11)]
    for of in both:
        assert recalled_prompt(memory, of.prompt) == of.prompt
        assert recalled(memory, prompt=of.prompt) == [(0, 11, ['red'])]
    assert memory.held_bytes == bytes_of(24)


def test_a_loop_with_two_prompts_keeps_the_start_of_each() -> None:
    memory = Memory('m')
    both = [key(), key('Other?')]
    for of in both:
        memory.change(change(10, 0, reason=Reason.FIRST, of=of))
        memory.record(hop(19, of=of))
    for of in both:
        memory.record(hop(2, of=of))
    for of in both:
        memory.change(change(2, 1, before=(10, 19, 'red'), reason=Reason.RESET, of=of))
        memory.event(text_event(1, 'it is red', of=of))
    for of in both:
        found = memory.recall('', 0, 0, of.prompt)
        assert found is not None and found.prompt == of.prompt
        assert [(seen.start_ns // S, seen.text) for seen in found.seen] == [(2, 'it is red')]


def test_a_stream_that_restarts_in_the_past_deletes_its_later_data() -> None:
    memory = Memory('m')
    memory.change(change(10, 0, reason=Reason.FIRST))
    memory.change(change(20, 1, 'blue', before=(10, 20, 'red')))
    memory.change(change(0, 0, reason=Reason.FIRST))
    memory.change(change(5, 1, 'blue', before=(0, 5, 'red')))
    assert spans(memory) == [(0, 5), (5, 5)]


def test_a_loop_deletes_later_data_of_removed_prompts() -> None:
    memory = Memory('m')
    memory.record(hop(18, of=key('Old?')))
    memory.record(hop(19))
    memory.record(hop(0))
    assert recalled_prompt(memory, 'Old?') == 'What?' and memory.held_bytes == bytes_of(1)


def test_a_jump_back_keeps_the_data_before_it() -> None:
    memory = Memory('m')
    for second in range(20):
        memory.record(hop(second))
    memory.change(change(0, 0, reason=Reason.FIRST))
    memory.change(change(5, 1, 'blue', before=(0, 5, 'red')))
    memory.change(change(15, 2, before=(5, 15, 'blue')))
    memory.record(hop(8))
    memory.change(change(8, 3, before=(15, 19, 'red'), reason=Reason.RESET))
    for second in range(9, 19):
        memory.record(hop(second))
    assert spans(memory) == [(0, 5), (6, 18)]
    assert recalled(memory)[-1][1] == 18


def has_hops(memory: Memory, seconds: Iterable[int]) -> bool:
    """Return whether hops of all these seconds are stored."""
    return all(memory.recall('', second * S, second * S + 1, '') for second in seconds)


def has_only_hops(memory: Memory, seconds: Sequence[int], segments: int = 0) -> bool:
    """Return whether hops of exactly these seconds are stored, and closed segments."""
    return memory.held_bytes == bytes_of(len(seconds), segments) and has_hops(memory, seconds)


def test_stamps_of_the_future_expire_nothing() -> None:
    month = 30 * 86_400
    memory = Memory('m', MemorySettings(kept_s=1000.0, hops_kept_s=500.0))
    for second in range(60):
        memory.record(hop(second))
    for second in range(60, 75):
        memory.record(hop(second + month))
    for second in range(75, 120):
        memory.record(hop(second))
    assert has_only_hops(memory, [*range(60), *range(75, 120)])
    for second in range(120, 601):  # the ages are those of the right stamps
        memory.record(hop(second))
    assert recalled(memory)[0][0] == 100


def test_a_clock_that_is_set_forward_counts_when_its_stamps_have_lasted() -> None:
    day = 86_400
    memory = Memory('m', MemorySettings(kept_s=1000.0, hops_kept_s=700.0))
    for second in range(60):
        memory.record(hop(second))
    for second in range(day, day + 600):
        memory.record(hop(second))
    assert has_hops(memory, range(60))
    memory.record(hop(day + 600))
    assert has_only_hops(memory, range(day, day + 601))


def test_stamps_later_than_the_clock_expire_nothing_however_long_they_last() -> None:
    month, now = 30 * 86_400, [0]
    memory = Memory('m', MemorySettings(kept_s=5000.0, hops_kept_s=4000.0), now=lambda: now[0])
    for second in range(2000):
        now[0] = second * S
        memory.record(hop(second + (month if second >= 60 else 0)))
    assert has_hops(memory, range(60))


def test_a_few_stamps_of_the_past_delete_nothing() -> None:
    memory = Memory('m')
    memory.change(change(1000, 0, reason=Reason.FIRST))
    for second in range(1000, 1060):
        memory.record(hop(second))
    for second in range(5):
        memory.record(hop(second, 'blue'))
        if second == 1:
            memory.change(change(0, 1, 'blue', (1000, 1059, 'red'), Reason.RESET))
            memory.event(text_event(1, 'it is blue'))
    memory.commit()
    assert "'camera': stamps went back by 1,05" in memory.problem
    for second in range(1065, 1070):
        memory.record(hop(second))
        if second == 1066:
            memory.change(change(1065, 2, 'red', (0, 4, 'blue'), Reason.RESET))
    memory.commit()
    memory.commit()
    assert memory.problem == ''
    assert has_only_hops(memory, [*range(1000, 1060), *range(1065, 1070)], segments=1)
    assert [m.text for m in memory.search(FakeLanguage(), 'blue')] == ['', '']


def test_live_data_is_not_replaced_by_stamps_that_contradict_the_clock() -> None:
    """The camera starts again without its clock, for long."""
    now = [0]
    memory = Memory('m', now=lambda: now[0])
    for second in range(5000, 5060):
        now[0] = second * S
        memory.record(hop(second))
    for second in range(100):
        now[0] = (5060 + second) * S
        memory.record(hop(second))
    memory.commit()
    assert 'clock not set' in memory.problem
    memory.record(hop(5160))
    assert has_only_hops(memory, [*range(5000, 5060), 5160])


def test_a_short_loop_is_stored_once_its_stamps_have_lasted() -> None:
    memory = Memory('m')
    for second in range(20):
        memory.record(hop(second))
    for _ in range(4):
        for second in range(6):
            memory.record(hop(second, 'blue'))
    assert has_only_hops(memory, range(6))


def test_of_two_cameras_the_older_data_goes_first_whatever_their_clocks_say() -> None:
    memory = Memory('m', MemorySettings(most_bytes=100_000))
    for second in range(4000):
        memory.record(hop(second, of=key(source='unset')))
        memory.record(hop(1_700_000_000 + second, of=key(source='set')))
    lengths = []
    for source in ('unset', 'set'):
        found = memory.recall(source, 0, 0, '')
        assert found is not None
        [seen] = found.seen
        lengths.append((seen.end_ns - seen.start_ns) // S)
    unset, live = lengths
    assert abs(unset - live) < 10 and unset > 800


def test_a_gap_keeps_the_segment_before_it() -> None:
    memory = Memory('m')
    memory.change(change(0, 0, reason=Reason.FIRST))
    memory.change(change(50, 1, before=(0, 9, 'red'), reason=Reason.RESET))
    assert spans(memory) == [(0, 9), (50, 50)]


# Segments and their texts.


def test_an_open_segment_extends_to_the_newest_hop() -> None:
    memory = Memory('m')
    memory.change(change(0, 0, reason=Reason.FIRST))
    memory.record(hop(7))
    assert spans(memory) == [(0, 7)]
    assert spans(memory, start_ns=5 * S) == [(0, 7)]
    memory.change(end(0, 7, 0))
    memory.record(hop(9))
    assert spans(memory) == [(0, 7), (9, 9)]


def test_texts_stay_with_their_segment() -> None:
    memory = Memory('m')
    memory.change(change(0, 0, reason=Reason.FIRST))
    memory.event(text_event(0, 'it is red'))
    memory.event(text_event(7, 'of an unknown segment'))
    memory.event(text_event(0, 'of an unknown stream', of=key('Other?')))
    memory.change(change(5, 1, 'blue', before=(0, 5, 'red')))
    assert [m.text for m in memory.search(FakeLanguage(), 'red')] == ['it is red', '']


# Search.


def test_search_merges_cameras_and_prompts_best_first() -> None:
    memory = Memory('m')
    for n, (color, of) in enumerate(
        [
            ('blue', key(source='front')),
            ('red', key(source='rear')),
            ('red', key('Other?', source='front')),
        ]
    ):
        memory.change(change(n, 0, color, reason=Reason.FIRST, of=of))
    found = memory.search(FakeLanguage(), 'red')
    assert [(m.source, m.start_ns // S, m.score) for m in found] == [
        ('rear', 1, 1.0),
        ('front', 2, 1.0),
        ('front', 0, 0.0),
    ]
    assert [m.start_ns // S for m in memory.search(FakeLanguage(), 'red', limit=1)] == [1]
    assert [m.start_ns // S for m in memory.search(FakeLanguage(), 'red', 'front')] == [2, 0]
    assert spans(memory, start_ns=1 * S, end_ns=1 * S) == [(1, 1)]


def test_a_moment_that_matches_in_several_prompts_is_found_once() -> None:
    memory = Memory('m')
    other, rear = key('Other?'), key(source='rear')
    for second in range(20):
        color = 'red' if 5 <= second < 10 else 'blue'
        later = 'red' if 6 <= second < 10 else 'blue'  # another prompt reports it a little later
        memory.record(hop(second, color))
        memory.record(hop(second, later, other))
        memory.record(hop(second, color, rear))
    found = memory.search(FakeLanguage(), 'red', limit=2)
    assert [(m.source, m.start_ns // S, m.end_ns // S, m.score) for m in found] == [
        ('camera', 5, 9, 1.0),
        ('rear', 5, 9, 1.0),
    ]


@pytest.mark.parametrize('empty', [True, False])
@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'text': ' '}, 'text'),
        ({'text': 'x' * 5000}, 'text .*5,000 characters'),
        ({'text': 'word ' * 65}, 'text .*65 words'),
        ({'text': 'red', 'limit': 0}, r'limit \(0\)'),
        ({'text': 'red', 'limit': 1001}, r'limit \(1001\) .*1000'),
        ({'text': 'red', 'start_ns': 80 * S, 'end_ns': 20 * S}, r'60\.000 s'),
        ({'text': 'red', 'source': 'rear'}, r"'rear' .*(camera|none)"),
    ],
)
def test_a_bad_search_is_refused_with_and_without_stored_data(
    fields: dict[str, object], message: str, empty: bool
) -> None:
    memory = Memory('m')
    if not empty:
        memory.change(change(0, 0, reason=Reason.FIRST))
    with pytest.raises(InputError, match=message):
        memory.search(FakeLanguage(), **fields)  # type: ignore[arg-type]


def test_vectors_of_another_model_are_refused_and_not_stored() -> None:
    memory, other = Memory('m'), key(model_id='other')
    with pytest.raises(ModelMismatchError, match=r"'other'.*'m'"):
        memory.record(hop(0, of=other))
    with pytest.raises(ModelMismatchError):
        memory.change(change(0, 0, reason=Reason.FIRST, of=other))
    assert memory.sources == ()


def test_segments_survive_lost_change_messages() -> None:
    memory = Memory('m')
    memory.change(change(0, 0, reason=Reason.FIRST))
    memory.event(text_event(0, 'it is red'))
    for second in range(12):
        memory.record(hop(second, 'red' if second < 5 else 'blue'))
    memory.change(change(12, 3, before=(9, 12, 'blue')))  # two changes were lost
    best = memory.search(FakeLanguage(), 'red')[0]
    assert (best.start_ns // S, best.text) == (0, 'it is red')


def test_an_open_segment_is_found_after_its_oldest_hops_were_deleted() -> None:
    memory = Memory('m', MemorySettings(kept_s=1000.0, hops_kept_s=5.0))
    memory.change(change(0, 0, reason=Reason.FIRST))
    memory.event(text_event(0, 'it is red'))
    for second in range(100):
        memory.record(hop(second))
    assert spans(memory, start_ns=10 * S, end_ns=20 * S) == [(0, 99)]
    assert recalled(memory, 10, 20) == [(10, 20, ['red'])]
    assert len(memory.search(FakeLanguage(), 'red')) == 1


def test_a_vector_of_another_length_is_refused_and_not_stored() -> None:
    memory = Memory('m')
    memory.record(hop(0))
    longer = Embedding(S, 0, key(), np.ones(9, np.float32))
    with pytest.raises(InputError, match=r'9.*8'):
        memory.record(longer)
    memory.record(hop(1))
    assert memory.held_bytes == bytes_of(2) and recalled(memory) == [(0, 1, ['red'])]
    assert memory.search(FakeLanguage(), 'red')[0].score == 1.0


def test_adjacent_matching_hops_of_a_segment_are_one_moment() -> None:
    memory = Memory('m')
    memory.change(change(0, 0, reason=Reason.FIRST))
    for second, color in enumerate(['red', 'red', 'blue', 'red', 'red', 'red', 'green', 'red']):
        if second == 4:
            memory.change(change(4, 1, before=(0, 4, 'red')))
        memory.record(hop(second, color))
    memory.event(text_event(1, 'it is red'))
    found = memory.search(FakeLanguage(), 'red', limit=4)
    assert [(m.start_ns // S, m.end_ns // S, m.score) for m in found] == [
        (0, 1, 1.0),
        (3, 3, 1.0),
        (4, 5, 1.0),
        (7, 7, 1.0),
    ]
    assert [m.text for m in found] == ['', '', 'it is red', 'it is red']
    assert [(m.start_ns // S, m.score) for m in memory.search(FakeLanguage(), 'red')[4:]] == [
        (2, 0.0),
        (6, 0.0),
    ]


def test_segments_are_found_after_their_hops_were_deleted() -> None:
    memory = Memory('m', MemorySettings(kept_s=100.0, hops_kept_s=5.0))
    memory.change(change(0, 0, reason=Reason.FIRST))
    for second in range(30):
        if second == 10:
            memory.change(change(10, 1, 'blue', before=(0, 10, 'red')))
        if second == 20:
            memory.change(change(20, 2, before=(10, 20, 'blue')))
        memory.record(hop(second, 'blue' if 10 <= second < 20 else 'red'))
    assert memory.held_bytes == bytes_of(6, segments=2)
    assert spans(memory) == [(20, 29), (0, 10), (10, 20)]
    assert spans(memory, start_ns=11 * S, end_ns=12 * S) == [(10, 20)]
    assert recalled(memory, 5, 15) == [(5, 10, ['red']), (10, 15, ['blue'])]


def test_the_size_limit_deletes_the_oldest_hops_then_the_oldest_segments() -> None:
    memory = Memory('m', MemorySettings(most_bytes=100_000))
    limit = 100_000
    for second in range(4_000):
        if second % 2 == 0:
            before = (second - 2, second, 'red') if second else None
            reason = Reason.MEANING if second else Reason.FIRST
            memory.change(change(second, second // 2, before=before, reason=reason))
        memory.record(hop(second))
        assert memory.held_bytes <= limit + 64 * 48 + 32 * 464  # the size is checked every 64 hops
    moments = spans(memory, limit=1_000)
    # With hops, a moment ends at its last hop: after 0 or 1 s instead of 2 s.
    hops = sum(end - start + 1 for start, end in moments if end - start < 2)
    assert 0 < hops <= 64
    starts = [start for start, _ in moments]
    assert min(starts) > 2_000 and max(starts) >= 3_990


def test_search_with_a_subset_of_hops_finds_the_same_moments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Vectors drift slowly, as in a real stream; colors appear for some hops."""
    rng, memory, vector = np.random.default_rng(3), Memory('m'), np.zeros(8)
    towards = vector
    for number in range(3000):
        if number % 12 == 0:
            towards = rng.normal(size=8)
        vector = 0.8 * vector + 0.2 * towards
        unit_vector = np.asarray(vector / np.linalg.norm(vector), np.float32)
        memory.record(Embedding(number * S, number * S, key(), unit_vector))
    every = memory.search(FakeLanguage(), 'red', limit=10)
    monkeypatch.setattr('vljepa_ros.memory.stream_memory.MOST_COMPARED', 1000)
    some = memory.search(FakeLanguage(), 'red', limit=10)
    assert len({moment.score for moment in every}) == 10
    assert [(m.start_ns, m.end_ns) for m in some] == [(m.start_ns, m.end_ns) for m in every]
    assert [m.score for m in some] == [m.score for m in every]
    assert (
        memory.search(FakeLanguage(), 'red', start_ns=7 * S, end_ns=2990 * S, limit=2)
        == [m for m in every if m.start_ns >= 7 * S and m.end_ns <= 2990 * S][:2]
    )


# Questions about the past.


def test_recall_prefers_the_same_prompt_then_the_newest_stream() -> None:
    memory = Memory('m')
    for second in range(4):
        memory.record(hop(second, 'green', key('Removed?')))
        memory.record(hop(second, 'red', key('Old?')))
    for second in range(3, 6):
        memory.record(hop(second, 'blue', key('New?')))

    assert recalled(memory, 0, 0, 'Old?') == [(0, 3, ['red'])]
    assert recalled(memory, 0, 0, 'Never asked?') == [(3, 5, ['blue'])]
    assert recalled(memory, 0, 1, 'Never asked?') == [(0, 1, ['green'])]
    found = memory.recall('camera', 0, S, 'Never asked?')
    assert found is not None and (found.source, found.prompt) == ('camera', 'Removed?')
    assert memory.recall('camera', 9 * S, 0, '') is None
    assert memory.recall('rear', 0, 0, '') is None


def test_a_span_is_pooled_and_bounded_by_its_hops() -> None:
    memory = Memory('m')
    for second, color in ((0.2, 'green'), (1.2, 'red'), (2.2, 'blue'), (3.2, 'green')):
        memory.record(hop(second, color))
    found = memory.recall('', 1 * S, 3 * S, '')
    assert found is not None
    [seen] = found.seen
    half = (color_vector('red') + color_vector('blue')) / np.sqrt(2)
    assert np.allclose(seen.vector, half, atol=1e-6)
    assert (seen.start_ns, seen.end_ns) == (1_200_000_000, 2_200_000_000)


def test_a_span_of_several_segments_is_recalled_by_segment() -> None:
    memory = Memory('m')
    memory.change(change(0, 0, reason=Reason.FIRST))
    memory.event(text_event(0, 'it is red'))
    for second in range(20):
        if second == 8:
            memory.change(change(8, 1, 'blue', before=(0, 8, 'red')))
        memory.record(hop(second, 'red' if second < 8 else 'blue'))
    found = memory.recall('', 4 * S, 12 * S, '')
    assert found is not None
    assert [seen.text for seen in found.seen] == ['it is red', '']
    assert recalled(memory, 4, 12) == [(4, 7, ['red']), (8, 12, ['blue'])]


def test_one_hop_of_a_segment_has_its_own_vector() -> None:
    memory = Memory('m')
    memory.change(change(0, 0, reason=Reason.FIRST))
    for second in range(20):
        memory.record(hop(second, 'blue' if second == 10 else 'red'))
    memory.change(change(20, 1, before=(0, 20, 'red')))
    found = memory.recall('', 9 * S + 1, 11 * S - 1, '')
    assert found is not None
    [seen] = found.seen
    assert np.allclose(seen.vector, color_vector('blue'))
    assert (seen.start_ns, seen.end_ns) == (10 * S, 10 * S)


def test_hops_outside_known_segments_are_included() -> None:
    memory = Memory('m')
    for second in range(5):
        memory.record(hop(second))
    memory.change(change(0, 0, reason=Reason.FIRST))
    memory.change(end(0, 4, 0))
    for second in range(10, 50):
        memory.record(hop(second, 'blue'))
    assert recalled(memory) == [(0, 4, ['red']), (10, 49, ['blue'])]


def test_the_longest_of_many_segments_are_recalled_in_order() -> None:
    memory = Memory('m')
    memory.change(change(0, 0, reason=Reason.FIRST))
    start = 0
    for number in range(1, 100):
        end = start + (3 if number % 10 == 0 else 2)
        memory.change(change(end, number, before=(start, end, 'red')))
        start = end
    found = recalled(memory)
    assert len(found) == 16
    assert found == sorted(found)
    assert sum(end - start == 3 for start, end, _ in found) == 9
