# SPDX-License-Identifier: Apache-2.0
"""Sections of model.yaml for public checkpoints: download sources, tokenizers, sentence bank."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model.config import check

FILE_NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.-]*')


@dataclass(frozen=True)
class SourceConfig:
    """One file of a Hugging Face repository that `vljepa models get` downloads.

    `sha256`: required hash of the file; if empty, the first download writes it to model.yaml.
    `save_as`: name under which the file is stored unchanged in the model folder. If `save_as` is
    empty, the file contains weights: tensors whose names start with `rename_from` are copied to
    weights.safetensors, and `rename_to` replaces this prefix.
    """

    repository: str
    file: str
    revision: str = 'main'
    sha256: str = ''
    save_as: str = ''
    rename_from: str = ''
    rename_to: str = ''

    def __post_init__(self) -> None:
        """Validate that both names are plain file names and that `sha256` is empty or a hash."""
        for name in (self.file, self.save_as or 'none'):
            if not FILE_NAME.fullmatch(name):
                raise ModelError(f"sources: '{name:.80}' is not a plain file name")
        if not re.fullmatch(r'([0-9a-f]{64})?', self.sha256):
            raise ModelError(
                f"sources: sha256 of {self.file} ('{self.sha256:.80}') is not 64 hex digits"
            )


@dataclass(frozen=True)
class BankConfig:
    """Configuration of a sentence bank, from which a model without a Y-Decoder takes its texts.

    `file`: text file in the model folder, one sentence per line. `abstain_below`: minimum cosine
    of a vector and its nearest sentence; below it, no sentence is returned.
    """

    file: str = 'sentences.txt'
    abstain_below: float = 0.0

    def __post_init__(self) -> None:
        """Validate both fields."""
        if not FILE_NAME.fullmatch(self.file):
            raise ModelError(f"bank.file ('{self.file:.80}') is not a plain file name")
        check('bank.', self, abstain_below=(-1, 1))


@dataclass(frozen=True)
class TokenizerConfig:
    """Name of a tokenizer.json in the model folder, and how texts are prepared for it.

    `begin`, `end`: special tokens before and after every text; if empty, no token is added.
    `lower_case`: whether texts are converted to lower case first.
    """

    file: str
    begin: str = ''
    end: str = ''
    lower_case: bool = False

    def __post_init__(self) -> None:
        """Validate that `file` is a plain file name."""
        if not FILE_NAME.fullmatch(self.file):
            raise ModelError(f"tokenizer.file ('{self.file:.80}') is not a plain file name")
