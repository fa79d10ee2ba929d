# SPDX-License-Identifier: Apache-2.0
"""Asks, looks back and waits: `python examples/ask.py` beside a running stack."""

from __future__ import annotations

import argparse

from vljepa_ros.client.planner_client import Client


def main(robot: Client, condition: str, timeout_s: float) -> list[str]:
    """What to say about now, about before, and about what comes."""
    answer = robot.query('Is the light on?', ['yes', 'no'])
    said = ['I cannot tell whether the light is on.']
    if not answer.abstained:
        said = [f'Is the light on? {answer.answer} ({answer.confidence:.0%})']
    for moment in robot.search('the light goes off', limit=1):
        said.append(f'{moment.start_ns / 1e9:.1f} s: {moment.text} ({moment.score:.0%})')
    found = robot.watch(condition, timeout_s).result()
    said.append(f'"{condition}" came true' if found else f'"{condition}" did not come true')
    return said


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('condition', nargs='?', default='the arm is at rest')
    parser.add_argument('--namespace', default='vljepa')
    parser.add_argument('--timeout', type=float, default=30.0, help='in s of ROS time')
    args = parser.parse_args()
    with Client(args.namespace) as client:
        print(*main(client, args.condition, args.timeout), sep='\n')
