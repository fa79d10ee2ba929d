# SPDX-License-Identifier: Apache-2.0
"""Exceptions of vljepa_ros and their error codes. Any other exception is a bug."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ErrorCode(IntEnum):
    """Kind of error (values equal the constants of Predict, Query, Search, Teach and Watch)."""

    OK = 0
    BAD_INPUT = 1
    BUSY = 2
    INACTIVE = 3
    NOT_STORED = 4
    MODEL_MISMATCH = 5
    INTERNAL = 6
    NO_FRAME = 7
    UNAVAILABLE = 8
    TIMEOUT = 9
    CANCELED = 10


class VljepaError(Exception):
    """Base class of all vljepa_ros errors. The message is one line that names the problem."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL


class InputError(VljepaError):
    """An image, prompt, bag, stamp or argument from outside is invalid."""

    code = ErrorCode.BAD_INPUT


class NotStoredError(InputError):
    """Nothing is stored for the time span of a question."""

    code = ErrorCode.NOT_STORED


class OutputError(VljepaError):
    """A file or folder cannot be written: no space, no permission, or the path is taken."""


class DiskFullError(OutputError):
    """A file cannot be created or opened because the disk is full."""


class ModelError(VljepaError):
    """A model folder is missing, damaged or of another architecture, or a device is missing."""


class ModelMismatchError(VljepaError):
    """Vectors of different model ids cannot be compared."""

    code = ErrorCode.MODEL_MISMATCH


class BusyError(VljepaError):
    """A stated limit of pending work is reached; the request can be repeated later."""

    code = ErrorCode.BUSY


class InactiveError(BusyError):
    """The node is not active; the request can be repeated when it is."""

    code = ErrorCode.INACTIVE


class NoFrameError(BusyError):
    """The model has not evaluated any frame yet; the request can be repeated later."""

    code = ErrorCode.NO_FRAME


class UnavailableError(BusyError):
    """A required service is missing or does not respond; the request can be repeated later."""

    code = ErrorCode.UNAVAILABLE


class InternalError(VljepaError):
    """The remote node failed unexpectedly; its log has the details."""


_BY_CODE: dict[int, type[VljepaError]] = {
    error.code: error
    for error in (
        InputError,
        NotStoredError,
        ModelMismatchError,
        BusyError,
        InactiveError,
        NoFrameError,
        UnavailableError,
    )
}


def error_of(code: int, message: str) -> VljepaError:
    """Map a service error code to an exception; INTERNAL and unknown codes: InternalError."""
    return _BY_CODE.get(code, InternalError)(message)
