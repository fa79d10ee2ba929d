# SPDX-License-Identifier: Apache-2.0
"""What `vljepa models get` does: a model's files downloaded, pinned, verified and converted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from torch import nn

from vljepa_ros.errors import ModelError, OutputError
from vljepa_ros.model.common_config import SourceConfig
from vljepa_ros.model.config import CONFIG
from vljepa_ros.model.convert import convert
from vljepa_ros.model.download import Progress, address, download
from vljepa_ros.model.weights import WEIGHTS

DOWNLOADS = 'downloads'  # below the model's folder, until they are converted

Say = Callable[[str], None]


def is_complete(folder: Path, sources: tuple[SourceConfig, ...]) -> bool:
    """Whether all that `obtain` makes is there."""
    names = [WEIGHTS, *(source.save_as for source in sources if source.save_as)]
    return all((folder / name).is_file() for name in names)


def obtain(
    folder: Path, sources: tuple[SourceConfig, ...], net: nn.Module, say: Say, progress: Progress
) -> None:
    """Fill `folder`; what an interrupted call left is gone on with. Raises ModelError.

    `net`: the architecture, on the meta device.
    """
    downloads = folder / DOWNLOADS
    try:
        downloads.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f'{downloads}: {error.strerror}: choose another place (--into)'
        ) from error
    weights: list[tuple[SourceConfig, Path]] = []
    for number, source in enumerate(sources):
        kept = folder / source.save_as if source.save_as else None
        target = kept or downloads / f'{number}-{source.file}'
        say(address(source))
        found = download(source, target, progress)
        if not source.sha256:
            pin(folder, source, found)
            say(f'{source.repository} {source.file} has SHA-256 {found}: from now on it must')
        if kept is None:
            weights.append((source, target))
    say(f'converting {len(weights)} files to {folder / WEIGHTS}')
    convert(weights, net, folder)
    shutil.rmtree(downloads)


def pin(folder: Path, source: SourceConfig, sha256: str) -> None:
    """Write a hash that was not known into model.yaml, and leave all else there as it is."""
    path = folder / CONFIG
    names = rf'repository: {re.escape(source.repository)}\n[ \t]+file: {re.escape(source.file)}\n'
    entry = re.compile(rf"({names}(?:[ \t]+\w+: .*\n)*?[ \t]+sha256: )(?:''|\"\")")
    text, count = entry.subn(rf'\g<1>{sha256}', path.read_text())
    if count != 1:
        raise ModelError(
            f"{path} has no 'sha256: ''' below repository {source.repository} and file "
            f'{source.file}: write {sha256} there'
        )
    partial = path.with_name(f'{CONFIG}.part')
    partial.write_text(text)
    partial.replace(path)
