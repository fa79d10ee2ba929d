# SPDX-License-Identifier: Apache-2.0
"""One file of a public repository -> a file here: resumed, hashed, and only when it is asked for.

HF_ENDPOINT names another hub, HF_TOKEN the token for gated repositories, HF_HUB_OFFLINE forbids
all of it, as they do for Hugging Face's own tools.
"""

# urllib, not huggingface_hub: its cache would keep gigabytes twice, and it checks sizes where this
# checks the hash of the very file that is converted.

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
TIMEOUT_S = 60.0  # without a byte
BLOCK = 1 << 20
ROOM = 1.05  # what is asked of the disk, in sizes of the file

Progress = Callable[[int, int], None]  # bytes that are there, and in all (0: unknown)


def download(source: SourceConfig, target: Path, progress: Progress) -> str:
    """Make `target` the file of `source`; returns its SHA-256.

    What an interrupted download left behind (`*.part`) is gone on with, if the file is still the
    same. Raises ModelError: offline, refused, broken off, another hash than `source.sha256`.
    """
    if not target.is_file():
        if os.environ.get('HF_HUB_OFFLINE', '').lower() in ('1', 'true', 'yes', 'on'):
            raise ModelError(f'{source.file} is not here, and HF_HUB_OFFLINE forbids downloads')
        partial = target.with_name(f'{target.name}.part')
        _fill(source, partial, progress)
        _verified(source, partial)
        partial.replace(target)
        _tag(partial).unlink(missing_ok=True)
    return _verified(source, target)


def address(source: SourceConfig) -> str:
    """Where the file is."""
    hub = os.environ.get('HF_ENDPOINT', HUB).rstrip('/')
    return f'{hub}/{source.repository}/resolve/{source.revision}/{source.file}'


def _fill(source: SourceConfig, partial: Path, progress: Progress) -> None:
    """Append to `partial` what it lacks."""
    url, done = address(source), partial.stat().st_size if partial.is_file() else 0
    request = Request(url)
    if (token := _token()) is not None:
        # Not to where the hub redirects to: that is another host's signed address.
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
                return  # all of it had come, and was not looked at yet
            _tag(partial).unlink()  # so that the next call begins anew
        raise ModelError(_refusal(source, url, error)) from error
    except URLError as error:
        raise ModelError(f'{url}: {error.reason}') from error
    except (HTTPException, OSError) as error:
        raise ModelError(f'{url}: {error}; what came is kept, and gone on with') from error


def _receive(response: HTTPResponse, partial: Path, progress: Progress) -> None:
    resumed = response.status == 206
    done = partial.stat().st_size if resumed else 0
    total = done + int(response.headers.get('Content-Length') or 0)
    _check_room(partial, total - done)
    if (tag := response.headers.get('ETag')) and not tag.startswith('W/'):
        _write(_tag(partial), tag.encode(), 'wb')
    how = 'ab' if resumed else 'wb'
    while block := response.read(BLOCK):
        _write(partial, block, how)
        how, done = 'ab', done + len(block)
        progress(done, total)
    if done < total:
        raise ConnectionError(f'broken off after {done:,} of {total:,} bytes')


def _write(path: Path, block: bytes, how: str) -> None:
    """Errors of the disk are told apart from the network's: both are OSError."""
    try:
        with path.open(how) as stream:
            stream.write(block)
    except OSError as error:
        raise OutputError(f'{path}: {error.strerror}') from error


def _check_room(partial: Path, missing: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if missing * ROOM > free:
        raise OutputError(
            f'{partial.parent} has {free / 1e9:.1f} GB free, {missing / 1e9:.1f} GB are to come'
        )


def _verified(source: SourceConfig, path: Path) -> str:
    """The hash of `path`, which is removed if it is another than that of `source`."""
    found = file_hash(path)
    if source.sha256 and found != source.sha256:
        path.unlink()
        raise ModelError(
            f'{source.repository} {source.file} has SHA-256 {found}, not {source.sha256} as '
            f'model.yaml says: it was removed'
        )
    return found


def _refusal(source: SourceConfig, url: str, error: HTTPError) -> str:
    if error.code in (401, 403):
        return (
            f'{url}: {error.code}: accept its terms at {HUB}/{source.repository}, if there is '
            f'such a page, and give your token as HF_TOKEN'
        )
    return f'{url}: {error.code} {error.reason}'


def _tag(partial: Path) -> Path:
    """Where the hub's name for the state of a file that is under way is kept."""
    return partial.with_name(f'{partial.name}.tag')


def _token() -> str | None:
    try:
        from huggingface_hub import get_token  # HF_TOKEN, or where `hf auth login` keeps it
    except ImportError:
        return os.environ.get('HF_TOKEN')
    return get_token()
