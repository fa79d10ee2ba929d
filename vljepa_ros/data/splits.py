# SPDX-License-Identifier: Apache-2.0
"""The splits of a data folder, and the seeds that each one's streams are made from."""

from __future__ import annotations

from vljepa_ros.core.errors import InputError

TRAIN = 'train'
VALIDATION = 'validation'  # on which every choice is made
TEST = 'test'  # for reports alone
UNSEEN = 'unseen'  # the tasks that training never has; their seeds are among those of the test
SAMPLE = 'sample'  # the bag in samples/
KITCHEN = 'kitchen'  # another scene, that training never has

# How a split's streams are filmed; folders of other views than home are called <split>-<views>.
HOME = 'home'  # four zoomed viewpoints
WIDE = 'wide'  # each episode by another camera
FIXED = 'wide-fixed'  # one wide camera a stream
VIEWS = (HOME, WIDE, FIXED)

SEEDS = {
    TRAIN: range(0, 10_000),
    VALIDATION: range(10_000, 20_000),
    TEST: range(20_000, 25_000),
    UNSEEN: range(25_000, 30_000),
    SAMPLE: range(30_000, 31_000),
    KITCHEN: range(40_000, 41_000),
}


def seed_range(split: str, streams: int, first_seed: int | None = None) -> range:
    """The seeds of a split's streams.

    Raises:
        InputError: an unknown split, or seeds that belong to another.
    """
    if split not in SEEDS:
        raise InputError(f'unknown split {split!r}; there are {", ".join(SEEDS)}')
    own = SEEDS[split]
    first = own.start if first_seed is None else first_seed
    if streams < 1 or first < own.start or first + streams > own.stop:
        raise InputError(
            f'seeds {first}..{first + streams - 1} are not in {own.start}..{own.stop - 1}, '
            f'the range of split {split!r}'
        )
    return range(first, first + streams)


def folder_name(split: str, views: str = HOME) -> str:
    """The folder of a split's streams in DATA, and the beginning of their names."""
    return split if views == HOME else f'{split}-{views}'
