# SPDX-License-Identifier: Apache-2.0
"""Download of a file from the Hugging Face Hub, with resume and SHA-256 verification.

Three environment variables have the same meaning as in `huggingface_hub`: HF_ENDPOINT is the URL
of the hub, HF_TOKEN is the access token for gated repositories, and HF_HUB_OFFLINE disables
downloads.
"""

# This module uses urllib, because huggingface_hub does not resume (version 2.4 deletes the data of
# an interrupted download), checks only file sizes, and only warns if the disk is too small.

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from vljepa_ros.core.errors import ModelError, OutputError
from vljepa_ros.core.files import file_hash
from vljepa_ros.model.checkpoint_config import SourceConfig

HUB = 'https://huggingface.co'
TIMEOUT_S = 60.0  # maximum time without received data
BLOCK = 1 << 20
ROOM = 1.05  # required free disk space, as a multiple of the missing bytes

Progress = Callable[[int, int], None]  # bytes received, total bytes (0: unknown)


def download(source: SourceConfig, target: Path, progress: Progress) -> str:
    """Download one file from a Hugging Face repository and verify its SHA-256.

    If `target` exists, it is verified but not downloaded again. After an interruption, the next
    call resumes the download, unless the file on the hub has changed. A file with a wrong hash is
    deleted.

    Args:
        source: Repository, file name, revision and required hash (empty: any).
        target: Path at which the file is stored; unfinished data is stored beside it as `*.part`.
        progress: Called after each received block with the received and the total bytes.

    Returns:
        The SHA-256 of the file in hexadecimal.

    Raises:
        ModelError: Downloads are disabled, the server refuses the request, the connection fails,
            or the hash differs from `source.sha256`.
        OutputError: The file cannot be written, for example because the disk is full.
    """
    if not target.is_file():
        if os.environ.get('HF_HUB_OFFLINE', '').lower() in ('1', 'true', 'yes', 'on'):
            raise ModelError(
                f'{source.file} is not downloaded, and HF_HUB_OFFLINE forbids downloads: unset '
                f'HF_HUB_OFFLINE and run the command again'
            )
        partial = target.with_name(f'{target.name}.part')
        _fill(source, partial, progress)
        _verified(source, partial)
        partial.replace(target)
        _tag(partial).unlink(missing_ok=True)
    return _verified(source, target)


def address(source: SourceConfig) -> str:
    """Return the download URL of a source's file."""
    hub = os.environ.get('HF_ENDPOINT', HUB).rstrip('/')
    return f'{hub}/{source.repository}/resolve/{source.revision}/{source.file}'


def _fill(source: SourceConfig, partial: Path, progress: Progress) -> None:
    """Download the missing bytes of `partial`, or all bytes if the file on the hub has changed.

    Raises:
        ModelError: The server refuses the request, or the connection fails.
        OutputError: The file cannot be written.
    """
    url, done = address(source), partial.stat().st_size if partial.is_file() else 0
    request = Request(url)
    if (token := _token()) is not None:
        # The hub redirects to signed URLs of another host, which must not receive the token.
        request.add_unredirected_header('Authorization', f'Bearer {token}')
    if done and _tag(partial).is_file():
        request.add_header('Range', f'bytes={done}-')
        request.add_header('If-Range', _tag(partial).read_text())
    try:
        with urlopen(request, timeout=TIMEOUT_S) as response:
            _receive(response, partial, progress)
    except HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if error.headers.get('Content-Range') == f'bytes */{done}':
                return  # the download was complete but not verified yet
            _tag(partial).unlink()  # the next call starts from the beginning
        raise ModelError(_refusal(source, url, error)) from error
    except URLError as error:
        raise ModelError(f'cannot download {url}: {error.reason}') from error
    except (HTTPException, OSError) as error:
        raise ModelError(
            f'cannot download {url}: {error}; received data is kept: run the command again to '
            'resume'
        ) from error


def _receive(response: HTTPResponse, partial: Path, progress: Progress) -> None:
    resumed = response.status == 206
    done = partial.stat().st_size if resumed else 0
    missing = int(response.headers.get('Content-Length') or 0)
    total = done + missing if missing else 0
    _check_room(partial, missing)
    if (tag := response.headers.get('ETag')) and not tag.startswith('W/'):
        _write(_tag(partial), tag.encode(), 'wb')
    how = 'ab' if resumed else 'wb'
    while block := response.read(BLOCK):
        _write(partial, block, how)
        how, done = 'ab', done + len(block)
        progress(done, total)
    if done < total:
        raise ConnectionError(f'the connection was lost after {done:,} of {total:,} bytes')


def _write(path: Path, block: bytes, how: str) -> None:
    """Write a block to a file, opened with mode `how`, and convert OSError to OutputError.

    The callers report an OSError as a network error.

    Raises:
        OutputError: The block cannot be written.
    """
    try:
        with path.open(how) as stream:
            stream.write(block)
    except OSError as error:
        raise OutputError(f'{path}: {error.strerror}') from error


def _check_room(partial: Path, missing: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if missing * ROOM > free:
        raise OutputError(
            f'{partial.parent} has {free / 1e9:.1f} GB free, but the download needs '
            f'{missing / 1e9:.1f} GB: free some space, or choose another folder (--into)'
        )


def _verified(source: SourceConfig, path: Path) -> str:
    """Return the SHA-256 of `path`, or delete the file if `source` requires another hash.

    Raises:
        ModelError: The hash differs, so the file was deleted.
    """
    found = file_hash(path)
    if source.sha256 and found != source.sha256:
        path.unlink()
        raise ModelError(
            f'{source.repository} {source.file} has SHA-256 {found}, but model.yaml requires '
            f'{source.sha256}: the file was removed'
        )
    return found


def _refusal(source: SourceConfig, url: str, error: HTTPError) -> str:
    if error.code in (401, 403):
        return (
            f'cannot download {url}: {error.code}: accept the terms at {HUB}/{source.repository}, '
            f'if this page exists, and set HF_TOKEN to your token'
        )
    return f'cannot download {url}: {error.code} {error.reason}'


def _tag(partial: Path) -> Path:
    """Return the path of the file that stores the ETag of an unfinished download."""
    return partial.with_name(f'{partial.name}.tag')


def _token() -> str | None:
    try:
        from huggingface_hub import get_token  # HF_TOKEN, or the token of `hf auth login`
    except ImportError:
        return os.environ.get('HF_TOKEN')
    return get_token()
