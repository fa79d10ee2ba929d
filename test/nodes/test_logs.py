# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

from helpers.node_harness import Bench, eventually
from rcl_interfaces.msg import Log
from rclpy.node import Node

from vljepa_ros.nodes.logs import forwarded


def test_library_log_records_become_node_log_lines(bench: Bench) -> None:
    node = Node('library_user')
    messages = bench.collect(Log, '/rosout')
    library = logging.getLogger('vljepa_ros.model.devices')
    lines = {
        Log.INFO: lambda: library.info('%s needs about %.1f GB', 'm', 2.7),
        Log.WARN: lambda: library.warning('m is not calibrated'),
        Log.ERROR: lambda: library.error('m is broken'),
    }
    with forwarded(node.get_logger()):
        eventually(lambda: node.count_subscribers('/rosout') > 0, 5.0, 'a subscriber')
        for log in [*lines.values(), *lines.values()]:
            log()
        library.debug('a detail')
        eventually(
            lambda: len([m for m in messages if m.name == 'library_user']) >= 6, 5.0, 'six lines'
        )
    library.warning('too late')
    logged = [(m.level, m.msg) for m in messages if m.name == 'library_user']
    assert (
        logged[:3]
        == logged[3:]
        == [
            (Log.INFO, 'm needs about 2.7 GB'),
            (Log.WARN, 'm is not calibrated'),
            (Log.ERROR, 'm is broken'),
        ]
    )
    node.destroy_node()
