# SPDX-License-Identifier: Apache-2.0
"""Implementation of `vljepa models get`: downloads, verifies and converts a public checkpoint.

A file is verified against the SHA-256 in model.yaml. If model.yaml has no hash for it, the hash of
the first download is written there ("pinned").
"""

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

DOWNLOADS = 'downloads'  # subfolder of the model folder; removed after the conversion

Report = Callable[[str], None]


def is_complete(folder: Path, sources: tuple[SourceConfig, ...]) -> bool:
    """Return whether a model folder contains all files that `obtain` creates."""
    names = [WEIGHTS, *(source.save_as for source in sources if source.save_as)]
    return all((folder / name).is_file() for name in names)


def obtain(
    folder: Path,
    sources: tuple[SourceConfig, ...],
    make: Callable[[], nn.Module],
    drawn: tuple[str, ...],
    report: Report,
    progress: Progress,
) -> None:
    """Download a model's files and convert their weights to weights.safetensors.

    If a call is interrupted, the next call resumes the downloads.

    Args:
        folder: Model folder with model.yaml.
        sources: Files to download.
        make: Builds the torch module of the model, on torch's default device.
        drawn: Name prefixes of weights that no source provides; `make` initializes them randomly.
        report: Called with each status line.
        progress: Called during downloads with the received and the total bytes of the file.

    Raises:
        ModelError: A download failed, or the weights do not match the module.
        OutputError: A file cannot be written.
    """
    downloads = folder / DOWNLOADS
    try:
        downloads.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f'cannot create {downloads}: {error.strerror}: choose another folder (--into)'
        ) from error
    weights: list[tuple[SourceConfig, Path]] = []
    pinned = dict[tuple[str, str, str], str]()  # several sources may share one file
    for source in sources:
        file = source.repository, source.revision, source.file
        source = replace(source, sha256=source.sha256 or pinned.get(file, ''))
        stored = folder / source.save_as if source.save_as else None
        # Several sources may take different weights from one file, which is downloaded once.
        target = stored or downloads / '--'.join(file).replace('/', '--')
        report(address(source))
        found = download(source, target, progress)
        if not source.sha256:
            pin(folder, source, found)
            pinned[file] = found
            report(f'{source.repository} {source.file} has SHA-256 {found}: written to {CONFIG}')
        if stored is None:
            weights.append((source, target))
    report(f'converting {len(weights)} files to {folder / WEIGHTS}')
    with torch.device('meta'):
        net = make()
    convert(weights, net, folder, _random_weights(make, drawn))
    shutil.rmtree(downloads)


def _random_weights(make: Callable[[], nn.Module], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    if not prefixes:
        return {}
    torch.manual_seed(0)
    state = make().state_dict()
    return {key: value for key, value in state.items() if key.startswith(prefixes)}


def pin(folder: Path, source: SourceConfig, sha256: str) -> None:
    """Write the SHA-256 of a source's file to its empty `sha256` entries in model.yaml.

    The rest of model.yaml does not change.

    Raises:
        ModelError: model.yaml has no empty `sha256` entry for the source.
    """
    path = folder / CONFIG
    names = rf'repository: {re.escape(source.repository)}\n[ \t]+file: {re.escape(source.file)}\n'

    def pinned(entry: re.Match[str]) -> str:
        stated = re.search(r'\n[ \t]+revision: [\'"]?([^\s\'"]+)', entry[0])
        if (stated[1] if stated else SourceConfig.revision) != source.revision:
            return entry[0]
        return re.sub(r"(\n[ \t]+sha256: )(?:''|\"\")", rf'\g<1>{sha256}', entry[0], count=1)

    before = path.read_text()
    text = re.sub(rf'{names}(?:[ \t]+\w+: .*\n?)*', pinned, before)
    if text == before:
        raise ModelError(
            f"{path} has no empty sha256 ('') for repository {source.repository}, file "
            f'{source.file} and revision {source.revision}: add sha256: {sha256} there'
        )
    partial = path.with_name(f'{CONFIG}.part')
    partial.write_text(text)
    partial.replace(path)
