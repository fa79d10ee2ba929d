# SPDX-License-Identifier: Apache-2.0
"""Example of query, search and watch: run `python examples/ask.py` while the stack runs."""

from __future__ import annotations

import argparse

from vljepa_ros.client.planner_client import Client


def main(robot: Client, condition: str, timeout_s: float) -> list[str]:
    """Ask about the present, search the past and wait for a condition; return lines to print."""
    answer = robot.query('Is the light on?', ['yes', 'no'])
    lines = ['I cannot tell whether the light is on.']
    if not answer.abstained:
        lines = [f'Is the light on? {answer.answer} ({answer.confidence:.0%})']
    for moment in robot.search('the light goes off', limit=1):
        lines.append(f'{moment.start_ns / 1e9:.1f} s: {moment.text} ({moment.score:.0%})')
    found = robot.watch(condition, timeout_s).result()
    lines.append(f'"{condition}" came true' if found else f'"{condition}" did not come true')
    return lines


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'condition', nargs='?', default='the arm is at rest', help='the statement to wait for'
    )
    parser.add_argument('--namespace', default='vljepa', help='namespace of the stack')
    parser.add_argument(
        '--timeout', type=float, default=30.0, help='maximum wait, in s of ROS time'
    )
    args = parser.parse_args()
    with Client(args.namespace) as client:
        print(*main(client, args.condition, args.timeout), sep='\n')
