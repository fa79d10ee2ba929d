# SPDX-License-Identifier: Apache-2.0
"""What `vljepa models get` does: a model's files downloaded, pinned, verified and converted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vljepa_ros.core.errors import ModelError, OutputError
from vljepa_ros.model.checkpoint_config import SourceConfig
from vljepa_ros.model.config import CONFIG
from vljepa_ros.model.hub.convert import convert
from vljepa_ros.model.hub.fetch import Progress, address, download
from vljepa_ros.model.weights import WEIGHTS

DOWNLOADS = 'downloads'  # below the model's folder, until they are converted

Say = Callable[[str], None]


def is_complete(folder: Path, sources: tuple[SourceConfig, ...]) -> bool:
    """Whether all that `obtain` makes is there."""
    names = [WEIGHTS, *(source.save_as for source in sources if source.save_as)]
    return all((folder / name).is_file() for name in names)


def obtain(
    folder: Path,
    sources: tuple[SourceConfig, ...],
    make: Callable[[], nn.Module],
    drawn: tuple[str, ...],
    say: Say,
    progress: Progress,
) -> None:
    """Fill `folder`; what an interrupted call left is gone on with. Raises ModelError.

    `make` builds the architecture on the device that is the default then. `drawn`: how the names
    of weights begin that no source has: they are as `make` draws them.
    """
    downloads = folder / DOWNLOADS
    try:
        downloads.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f'{downloads}: {error.strerror}: choose another place (--into)'
        ) from error
    weights: list[tuple[SourceConfig, Path]] = []
    pinned = dict[tuple[str, str, str], str]()  # several sources may be of one file
    for source in sources:
        file = source.repository, source.file, source.revision
        source = replace(source, sha256=source.sha256 or pinned.get(file, ''))
        kept = folder / source.save_as if source.save_as else None
        # Several sources may take different weights from one file, which comes once.
        target = kept or downloads / f'{source.repository.replace("/", "--")}--{source.file}'
        say(address(source))
        found = download(source, target, progress)
        if not source.sha256:
            pin(folder, source, found)
            pinned[file] = found
            say(f'{source.repository} {source.file} has SHA-256 {found}: from now on it must')
        if kept is None:
            weights.append((source, target))
    say(f'converting {len(weights)} files to {folder / WEIGHTS}')
    with torch.device('meta'):
        net = make()
    convert(weights, net, folder, _drawn(make, drawn))
    shutil.rmtree(downloads)


def _drawn(make: Callable[[], nn.Module], begin: tuple[str, ...]) -> dict[str, Tensor]:
    if not begin:
        return {}
    torch.manual_seed(0)
    state = make().state_dict()
    return {key: value for key, value in state.items() if key.startswith(begin)}


def pin(folder: Path, source: SourceConfig, sha256: str) -> None:
    """Write a hash that was not known into model.yaml, and leave all else there as it is."""
    path = folder / CONFIG
    names = rf'repository: {re.escape(source.repository)}\n[ \t]+file: {re.escape(source.file)}\n'
    entry = re.compile(rf"({names}(?:[ \t]+\w+: .*\n)*?[ \t]+sha256: )(?:''|\"\")")
    text, count = entry.subn(rf'\g<1>{sha256}', path.read_text())
    if not count:
        raise ModelError(
            f"{path} has no 'sha256: ''' below repository {source.repository} and file "
            f'{source.file}: write {sha256} there'
        )
    partial = path.with_name(f'{CONFIG}.part')
    partial.write_text(text)
    partial.replace(path)
