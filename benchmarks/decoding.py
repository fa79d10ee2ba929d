# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/decoding.py [--json]`: evaluate the Y-Decoder on untrained combinations."""

from __future__ import annotations

import dataclasses
import sys

from common import run, show

from vljepa_ros.cli.common import add_model_arguments, load_model
from vljepa_ros.cli.main import Parser
from vljepa_ros.data import concepts
from vljepa_ros.evaluate.novel_combinations import decode_held_out


def main() -> None:
    """Measure and print. Raises VljepaError."""
    parser = Parser(description=__doc__)
    add_model_arguments(parser)
    args = parser.parse_args()
    model = load_model(args, 'language')
    assert model.language is not None
    found = dataclasses.asdict(decode_held_out(model.language, concepts.named()))
    table = '\n'.join(f'{name:14} {round(value, 4):g}' for name, value in found.items())
    show(args, model.facts, found, table)


if __name__ == '__main__':
    sys.exit(run(main))
