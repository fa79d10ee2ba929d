# SPDX-License-Identifier: Apache-2.0
"""Sections of model.yaml that all public checkpoints share: sources, tokenizers, bank."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model.config import check

FILE_NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.-]*')


@dataclass(frozen=True)
class SourceConfig:
    """One file of a public repository that `vljepa models get` downloads.

    `sha256`: hash of the file; if empty, `get` writes it here at the first download. `save_as`:
    name under which the file is stored unchanged; if empty, the file holds weights. Tensors whose
    names start with `rename_from` go into weights.safetensors, with `rename_to` as the new prefix.
    """

    repository: str
    file: str
    revision: str = 'main'
    sha256: str = ''
    save_as: str = ''
    rename_from: str = ''
    rename_to: str = ''

    def __post_init__(self) -> None:
        """Check that file names stay inside the model's folder and that the hash is valid."""
        for name in (self.file, self.save_as or 'none'):
            if not FILE_NAME.fullmatch(name):
                raise ModelError(f"sources: '{name:.80}' is not a plain file name")
        if not re.fullmatch(r'([0-9a-f]{64})?', self.sha256):
            raise ModelError(
                f"sources: sha256 of {self.file} ('{self.sha256:.80}') is not 64 hex digits"
            )


@dataclass(frozen=True)
class BankConfig:
    """Sentence bank that replaces a Y-Decoder.

    The nearest sentence is returned; none if its cosine is below `abstain_below`.
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
    """A tokenizer.json in the model's folder, and the tokens around every text ('': none)."""

    file: str
    begin: str = ''
    end: str = ''
    lower_case: bool = False

    def __post_init__(self) -> None:
        """Check the file name."""
        if not FILE_NAME.fullmatch(self.file):
            raise ModelError(f"tokenizer.file ('{self.file:.80}') is not a plain file name")
