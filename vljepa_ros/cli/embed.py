# SPDX-License-Identifier: Apache-2.0
"""`vljepa embed SOURCE --out F.npz`: write one embedding per hop as NumPy arrays.

The file contains the arrays `stamp` (N,) float64, in seconds from the start of the source,
`vector` (N, D) float32 of unit norm, `model_id` and `prompt`.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError

if TYPE_CHECKING:
    from vljepa_ros.core.types import Embedding


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa embed`."""
    common.add_source_arguments(parser)
    parser.add_argument('--out', required=True, metavar='F.npz', help='NumPy file to write')
    common.add_prompt_argument(parser)
    common.add_max_gap_argument(parser)
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa embed` and return its exit status."""
    import numpy as np

    from vljepa_ros.cli import offline_run
    from vljepa_ros.stream.perceiver import Perceiver

    out = common.checked_out(args.out)
    settings = common.settings_of(args).perception
    source = common.open_given(args, one_camera=True)
    model = common.load_model(args, 'vision')
    assert model.vision is not None
    perceiver = Perceiver(model.vision, settings)
    found: list[Embedding] = []
    for made in offline_run.hops(perceiver, source, settings.max_gap_ns):
        for embedding in made:
            if found and embedding.stamp_ns == found[-1].stamp_ns:
                continue  # a slow camera: the hop contains no new frame
            found.append(embedding)
    stamps_s = [common.seconds(e.stamp_ns, source.start_ns) for e in found]
    shape = (len(found), model.facts.embedding_dim)
    arrays = {
        'stamp': np.array(stamps_s, np.float64),
        'vector': np.array([e.vector for e in found], np.float32).reshape(shape),
        'model_id': np.array(model.facts.model_id),
        'prompt': np.array(settings.prompts[0]),
    }
    _write(out, arrays)
    if not found:
        common.note_unseen(source)
    if args.json:
        common.print_json(
            {
                'out': args.out,
                'hops': len(found),
                'dim': model.facts.embedding_dim,
                'model_id': model.facts.model_id,
            }
        )
    else:
        print(f'wrote {len(found)} embeddings of {model.facts.embedding_dim} values to {args.out}')
    return 0


def _write(path: Path, arrays: dict[str, object]) -> None:
    """Write arrays to an .npz file atomically, so that a failure leaves no partial file."""
    import numpy as np

    partial = path.with_name(f'.vljepa-embed-{os.getpid()}')
    try:
        with partial.open('wb') as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        partial.replace(path)
    except OSError as error:
        raise InputError(f'--out: {path}: {error.strerror}') from error
    finally:
        partial.unlink(missing_ok=True)
