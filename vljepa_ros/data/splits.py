# SPDX-License-Identifier: Apache-2.0
"""Names of splits and views, and the range of seeds of each split."""

from __future__ import annotations

from vljepa_ros.core.errors import InputError

TRAIN = 'train'
VALIDATION = 'validation'  # for model selection and all other choices
TEST = 'test'  # for reported results only
UNSEEN = 'unseen'  # tasks that are absent from training
SAMPLE = 'sample'  # for the bag in samples/
KITCHEN = 'kitchen'  # a scene that is absent from training

# Camera views of a split's streams (see data.simulators.mwstream.streams).
HOME = 'home'  # one of four zoomed viewpoints per stream
WIDE = 'wide'  # a new random camera for each episode
FIXED = 'wide-fixed'  # one random camera per stream
CUTS = 'wide-cuts'  # a new random camera every 1.6 s, for training
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

    Args:
        split: Name of the split.
        streams: Number of streams.
        first_seed: Seed of the first stream; None starts at the beginning of the split's range.

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
    """Return the folder of a split in DATA: <split> for the home views, else <split>-<views>.

    The ids of simulated streams begin with this name.
    """
    return split if views == HOME else f'{split}-{views}'
