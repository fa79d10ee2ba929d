# SPDX-License-Identifier: Apache-2.0
"""Bag player in this process: recording times that jump."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

from helpers import bags
from helpers.node_harness import Bench
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage

from vljepa_ros.client.bag_player import Player, PlayOptions
from vljepa_ros.sources.bag import Bag


def test_a_jump_of_the_recording_times_is_no_pause(bench: Bench, tmp_path: Path) -> None:
    rows, year_ns = bags.colors(['red'], 6), 365 * 86_400 * 10**9
    rows = rows[:3] + [(topic, log_ns + year_ns, image) for topic, log_ns, image in rows[3:]]
    bag, notes = Bag(bags.write(tmp_path / 'bag', rows)), list[str]()
    images = bench.collect(CompressedImage, bags.TOPIC)
    clocks = bench.collect(Clock, '/clock')
    options = PlayOptions(namespace=bench.namespace, rate=1.0)
    player = Player(bench.probe, time.sleep, bag, options, notes.append)
    assert len(list(player.run())) == 6
    images.wait(6)
    clocks.wait(6)
    assert [n for n in notes if 'jump' in n] == [
        'recording times jump by 31,536,000 s (was the clock set?): playing on without this pause'
    ]


def test_a_bag_is_played_in_a_loop(bench: Bench, tmp_path: Path) -> None:
    bag = Bag(bags.write(tmp_path / 'bag', bags.colors(['red'], 6)))
    images = bench.collect(CompressedImage, bags.TOPIC)
    options = PlayOptions(namespace=bench.namespace, rate=9.0, loop=True)
    player = Player(bench.probe, time.sleep, bag, options, print)
    played = [message.log_ns for message in islice(player.run(), 15)]
    assert played == (played[:6] * 3)[:15]
    images.wait(15)
