# SPDX-License-Identifier: Apache-2.0
"""`vljepa models compare NAME SOURCE`: compare window and block-causal mode on a recording."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError

if TYPE_CHECKING:
    from vljepa_ros.model.bidirectional.mode_comparison import BothEncoders


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa models compare`."""
    parser.add_argument('name', metavar='NAME|DIR', help='a model of kind bidirectional')
    common.add_source_arguments(parser)
    common.add_prompt_argument(parser)
    common.add_max_gap_argument(parser)
    common.add_device_arguments(parser)
    common.add_output_arguments(parser)


def compare(args: argparse.Namespace) -> int:
    """Compare the embeddings of window mode and block-causal mode on a recording."""
    from vljepa_ros.cli import offline_run
    from vljepa_ros.stream.perceiver import Perceiver

    settings = common.settings_of(args).perception
    source = common.open_given(args, one_camera=True)
    vision = _load(args)
    for _ in offline_run.hops(Perceiver(vision, settings), source, settings.max_gap_ns):
        pass
    if not vision.cosines:
        common.note_unseen(source)
        return 0
    found = result(vision)
    if args.json:
        common.print_json(found)
    else:
        print(
            'cosine similarity of block-causal and window mode: mean {cosine_mean:.3f}, minimum '
            '{cosine_min:.3f}, over {hops} hops\nseconds per hop on {device} in {dtype}: window '
            '{window_s:.3f}, block-causal {causal_s:.3f} ({ratio:.2f} times as fast)'.format(
                **found
            )
        )
    return 0


def result(vision: BothEncoders) -> dict[str, Any]:
    """Return the comparison as a JSON object, with times in seconds per hop.

    Times are medians, because the first hops include the warm-up.
    """
    import statistics

    window_s, causal_s = (statistics.median(s) for s in (vision.window_s, vision.causal_s))
    return {
        'model_id': vision.facts.model_id,
        'hops': len(vision.window_s),
        'cosine_mean': statistics.fmean(vision.cosines),
        'cosine_min': min(vision.cosines),
        'window_s': window_s,
        'causal_s': causal_s,
        'ratio': window_s / causal_s,
        'device': vision.facts.device,
        'dtype': vision.facts.dtype,
    }


def _load(args: argparse.Namespace) -> BothEncoders:
    from vljepa_ros.model import registry
    from vljepa_ros.model.bidirectional.config import BidirectionalConfig

    folder = registry.find(args.name)
    config = registry.read_config(folder)
    if not isinstance(config, BidirectionalConfig):
        raise InputError(
            f"model '{config.name}' is of kind {config.kind}: only models of kind bidirectional "
            'have both a window mode and a block-causal mode'
        )
    device = registry.prepare(args.device, args.dtype, args.threads)
    # Imported after all arguments are checked, because the import takes seconds.
    from vljepa_ros.model.bidirectional.mode_comparison import both_encoders

    return both_encoders(folder, config, device, args.dtype)
