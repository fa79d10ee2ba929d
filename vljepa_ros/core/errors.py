# SPDX-License-Identifier: Apache-2.0
"""Exceptions of vljepa_ros and their error codes. Any other exception is a bug."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ErrorCode(IntEnum):
    """Error code of a response; equals the constants of Predict, Query, Search, Teach, Watch."""

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
    """An input is invalid, for example an image, prompt, bag, stamp or argument."""

    code = ErrorCode.BAD_INPUT


class DepthImageError(InputError):
    """An image contains distances, not colors."""


class NoKeyFrameError(InputError):
    """A video packet cannot be decoded, because no key frame was received before it."""


class NotStoredError(InputError):
    """No frames or embeddings are stored for the time span of a question."""

    code = ErrorCode.NOT_STORED


class OutputError(VljepaError):
    """A file or folder cannot be written, or a database cannot be opened or read."""


class DiskFullError(OutputError):
    """A file cannot be created or opened because the disk is full."""


class ModelError(VljepaError):
    """A model is missing, damaged or not supported, or a device is missing."""


class ModelMismatchError(VljepaError):
    """Vectors cannot be compared, because they are from different models."""

    code = ErrorCode.MODEL_MISMATCH


class BusyError(VljepaError):
    """A limit on pending work is reached, or a resource is in use; try again later."""

    code = ErrorCode.BUSY


class InactiveError(BusyError):
    """The node is not active; the request can be repeated after its activation."""

    code = ErrorCode.INACTIVE


class NoFrameError(BusyError):
    """The model has not evaluated any frame yet; the request can be repeated later."""

    code = ErrorCode.NO_FRAME


class UnavailableError(BusyError):
    """A required service is missing or does not respond; the request can be repeated later."""

    code = ErrorCode.UNAVAILABLE


class CameraError(UnavailableError):
    """A live camera cannot be reached, or its stream ended or stalled; it may come back."""


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
    """Return an exception for an error code; InternalError if the code has no exception."""
    return _BY_CODE.get(code, InternalError)(message)
