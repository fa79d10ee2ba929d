# SPDX-License-Identifier: Apache-2.0
"""The client of the demo without a stack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import bags
from helpers.node_harness import Bench

from vljepa_ros.client import demo_client
from vljepa_ros.client.bag_player import Player
from vljepa_ros.core.errors import InputError
from vljepa_ros.sources.bag import Bag, BagMessage


def test_a_question_after_the_last_image_is_an_error(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(player: Player) -> Iterator[BagMessage]:
        return bag.messages(player.topics)

    bag = Bag(bags.write(tmp_path / 'bag', bags.colors(['red'], 11)))
    monkeypatch.setattr(demo_client, 'NODES', ())
    monkeypatch.setattr(Player, 'run', run)
    emitted: list[dict[str, Any]] = []
    client = demo_client.DemoClient(bag, 'demo_test', 1.0, emitted.append)
    late = {'at': 1.5, 'prompt': 'What is happening?', 'candidates': []}
    try:
        with pytest.raises(InputError, match=r'the question at 1\.5 s is after the last image'):
            client.run([late])
    finally:
        client.close()
    assert [list(finding) for finding in emitted] == [['active'], ['played']]
