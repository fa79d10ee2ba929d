# SPDX-License-Identifier: Apache-2.0
"""The `vljepa` command, which writes results to stdout, and progress and logs to stderr.

`vljepa_ros.core.exit_status` lists the exit statuses.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from vljepa_ros import __version__
from vljepa_ros.core.errors import VljepaError
from vljepa_ros.core.exit_status import ExitStatus, command_status

COMMANDS = (
    'live',
    'annotate',
    'embed',
    'ask',
    'search',
    'check',
    'report',
    'memory',
    'play',
    'top',
    'data',
    'train',
    'calibrate',
    'evaluate',
    'models',
    'demo',
)


DEBUG = 'VLJEPA_DEBUG'  # environment variable: print the traceback of an unexpected error


class Parser(argparse.ArgumentParser):
    """Argument parser that reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        """Print an error line to stderr and exit with status BAD_INPUT."""
        self.exit(
            ExitStatus.BAD_INPUT, f"{self.prog}: error: {message} (see '{self.prog} --help')\n"
        )


def make_parser() -> argparse.ArgumentParser:
    """Create the parser of all commands.

    The modules of the commands import large packages such as torch only when a command runs.
    """
    parser = Parser(
        prog='vljepa',
        description='Describe, query and embed camera recordings with streaming VL-JEPA.',
    )
    parser.add_argument('--version', action='version', version=f'vljepa {__version__}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for name in COMMANDS:
        module = importlib.import_module(f'vljepa_ros.cli.{name}')
        summary = str(module.__doc__).splitlines()[0].partition(': ')[2]
        command = commands.add_parser(name, help=summary, description=summary)
        module.configure(command)
        command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command from its command-line arguments and return its exit status."""
    _open_outputs()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format='%(levelname)s %(name)s: %(message)s'
    )
    for noisy in ('transformers', 'huggingface_hub', 'httpx', 'rosbags'):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        try:
            args = make_parser().parse_args(arguments)
        except SystemExit:  # --help and --version print to stdout, which may be a full disk
            sys.stdout.flush()
            raise
        status = args.run(args)
        sys.stdout.flush()
        return int(status)
    except VljepaError as error:
        return _fail(str(error), command_status(error))
    except ModuleNotFoundError as error:
        if (error.name or '').startswith('vljepa_ros'):
            raise
        return _fail(f'this command needs the Python package {error.name}, which is not installed')
    except BrokenPipeError:
        _discard_stdout()
        return ExitStatus.OUTPUT_CLOSED
    except OSError as error:  # a file or the disk
        try:
            sys.stdout.flush()
        except OSError:
            _discard_stdout()
        where = f'{error.filename}: ' if error.filename else ''
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        status = ExitStatus.TRANSIENT if is_full else ExitStatus.BAD_INPUT
        return _fail(f'{where}{error.strerror or error}', status)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        kind = type(error).__name__
        return _fail(
            f'unexpected {kind}: {error} (please report it, with the traceback of {DEBUG}=1)',
            ExitStatus.FAILED,
        )


def _fail(message: str, status: ExitStatus = ExitStatus.BAD_INPUT) -> int:
    line = ' '.join(message.split())
    with contextlib.suppress(OSError):  # stderr may be a file on a full disk
        print(f'vljepa: error: {line}', file=sys.stderr)
    return status


def _discard_stdout() -> None:
    """Redirect stdout to /dev/null, because Python flushes it again on exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_outputs() -> None:
    """Replace a closed stdout or stderr by /dev/null, and escape characters they cannot encode."""
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: `vljepa models >&-`
            setattr(sys, name, open(os.devnull, 'w', encoding='utf-8'))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == 'strict':
            stream.reconfigure(errors='backslashreplace')


if __name__ == '__main__':
    sys.exit(main())
