# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/decoding.py`: the Y-Decoder on combinations never trained, as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json

from vljepa_ros.evaluate.decoding import decode_held_out
from vljepa_ros.model.registry import load


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', default='small', help='name or folder')
    model = load(parser.parse_args().model, device='cpu', parts=('language',))
    assert model.language is not None
    found = dataclasses.asdict(decode_held_out(model.language))
    print(json.dumps({'model_id': model.facts.model_id, **found}, indent=1))


if __name__ == '__main__':
    main()
