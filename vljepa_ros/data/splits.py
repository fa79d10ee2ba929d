# SPDX-License-Identifier: Apache-2.0
"""Splits of a data folder and the range of seeds of each split's streams."""

from __future__ import annotations

from vljepa_ros.core.errors import InputError

TRAIN = 'train'
VALIDATION = 'validation'  # for model selection and all other choices
TEST = 'test'  # for reports only
UNSEEN = 'unseen'  # tasks absent from training; their seeds lie in the test split's range
SAMPLE = 'sample'  # the bag in samples/
KITCHEN = 'kitchen'  # another scene, absent from training

# Views of a split's streams; folders of views other than home are named <split>-<views>.
HOME = 'home'  # four zoomed viewpoints
WIDE = 'wide'  # another camera for each episode
FIXED = 'wide-fixed'  # one wide camera per stream
CUTS = 'wide-cuts'  # another wide camera every 1.6 s, for training
EVALUATED = (HOME, WIDE, FIXED)
VIEWS = (*EVALUATED, CUTS)

SEEDS = {
    TRAIN: range(0, 10_000),
    VALIDATION: range(10_000, 20_000),
    TEST: range(20_000, 25_000),
    UNSEEN: range(25_000, 30_000),
    SAMPLE: range(30_000, 31_000),
    KITCHEN: range(40_000, 41_000),
}


def seed_range(split: str, streams: int, first_seed: int | None = None) -> range:
    """Return the seeds of a split's streams.

    Raises:
        InputError: the split is unknown, or seeds lie outside its range.
    """
    if split not in SEEDS:
        raise InputError(f'unknown split {split!r} (known: {", ".join(SEEDS)})')
    own = SEEDS[split]
    first = own.start if first_seed is None else first_seed
    if streams < 1 or first < own.start or first + streams > own.stop:
        raise InputError(
            f'seeds {first}..{first + streams - 1} are not in {own.start}..{own.stop - 1}, '
            f'the range of split {split!r}'
        )
    return range(first, first + streams)


def folder_name(split: str, views: str = HOME) -> str:
    """Return the folder of a split's streams in DATA; it is also the prefix of their names."""
    return split if views == HOME else f'{split}-{views}'
