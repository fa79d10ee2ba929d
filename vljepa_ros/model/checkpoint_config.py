# SPDX-License-Identifier: Apache-2.0
"""Parts of model.yaml that kinds of public checkpoints share: sources, tokenizers, a bank."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model.config import check

FILE_NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.-]*')


@dataclass(frozen=True)
class SourceConfig:
    """One file of a public repository that `vljepa models get` downloads.

    `sha256` '': not known yet, `get` writes it here at the first download. With `save_as` the
    file is kept as it is under that name. Otherwise it holds weights: tensors whose names begin
    with `rename_from` go into weights.safetensors, with `rename_to` in its place.
    """

    repository: str
    file: str
    revision: str = 'main'
    sha256: str = ''
    save_as: str = ''
    rename_from: str = ''
    rename_to: str = ''

    def __post_init__(self) -> None:
        """Names that stay inside the model's folder, and a hash that is one."""
        for name in (self.file, self.save_as or 'none'):
            if not FILE_NAME.fullmatch(name):
                raise ModelError(f"sources: '{name:.80}' is not the name of a file")
        if not re.fullmatch(r'([0-9a-f]{64})?', self.sha256):
            raise ModelError(f"sources: sha256 of {self.file} ('{self.sha256:.80}') is not one")


@dataclass(frozen=True)
class BankConfig:
    """Sentences that stand in for a Y-Decoder: the nearest is said, none below a similarity."""

    file: str = 'sentences.txt'
    abstain_below: float = 0.0

    def __post_init__(self) -> None:
        """Check both."""
        if not FILE_NAME.fullmatch(self.file):
            raise ModelError(f"bank.file ('{self.file:.80}') is not the name of a file")
        check('bank.', self, abstain_below=(-1, 1))


@dataclass(frozen=True)
class TokenizerConfig:
    """A tokenizer.json of the model's folder, and the tokens put around every text ('': none)."""

    file: str
    begin: str = ''
    end: str = ''
    lower_case: bool = False

    def __post_init__(self) -> None:
        """Check the name."""
        if not FILE_NAME.fullmatch(self.file):
            raise ModelError(f"tokenizer.file ('{self.file:.80}') is not the name of a file")
