# SPDX-License-Identifier: Apache-2.0
"""`vljepa top`: show rates, latency, drops, events and watches of a running stack, and ask it.

The view fits a terminal of 80x24 and works over ssh. NO_COLOR is respected.
"""

from __future__ import annotations

import argparse
import math
import sys

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError, UnavailableError

EXAMPLE = """examples:
  vljepa top                            the stack in the namespace vljepa
  vljepa top --namespace robot1/vljepa  another namespace
  vljepa top --once --json              one JSON object, for scripts
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa top`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    parser.add_argument(
        '--namespace', default='vljepa', help='namespace of the stack (default: vljepa)'
    )
    parser.add_argument(
        '--once', action='store_true', help='print the state once, after --seconds, and exit'
    )
    parser.add_argument(
        '--seconds',
        type=float,
        default=3.0,
        metavar='S',
        help='with --once: time to collect messages (default: 3)',
    )
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa top` and return its exit status."""
    if not math.isfinite(args.seconds) or args.seconds <= 0:
        raise InputError(f'--seconds ({args.seconds:g}) is not positive')
    if args.json and not args.once:
        raise InputError('--json needs --once')
    if not args.once and not sys.stdout.isatty():
        raise InputError('stdout is not a terminal: use --once')
    try:
        from vljepa_ros.client.stack_monitor import StackMonitor
    except ImportError as error:
        raise InputError(f'top needs ROS 2 (rclpy): {error}') from error
    with StackMonitor(args.namespace) as monitor:
        if not args.once:
            monitor.show()
            return 0
        monitor.spin(args.seconds)
        if not monitor.is_present:
            raise UnavailableError(
                f"no stack in the namespace '{monitor.namespace}' sent anything for "
                f'{args.seconds:g} s: start it (ros2 launch vljepa_ros vljepa.launch.py), or set '
                '--namespace and ROS_DOMAIN_ID'
            )
        if args.json:
            common.print_json(monitor.summary())
        else:
            monitor.print_once()
    return 0
