# SPDX-License-Identifier: Apache-2.0
"""Texts -> token ids by a tokenizer.json of the model's folder.

Padding is told by a mask, never by an id: Llama's padding id is that of its end of text, so that a
mask made of ids would hide real tokens.

Shapes: N texts, L tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.files import file_hash
from vljepa_ros.model.checkpoint_config import TokenizerConfig


class Tokens:
    """One tokenizer, its marks at both ends of a text, and how long a text may be."""

    def __init__(self, folder: Path, config: TokenizerConfig, limit: int) -> None:
        from tokenizers import Tokenizer

        path = folder / config.file
        if not path.is_file():
            raise ModelError(f'{path} is missing: vljepa models get {folder.resolve().name}')
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust library raises Exception itself
            raise ModelError(f'{path} is damaged: {str(error).splitlines()[0]:.200}') from error
        # A tokenizer.json may bring its own marks, or not: those of model.yaml count, once.
        self._begin, self._end = (
            [self._id(path, mark)] if mark else [] for mark in (config.begin, config.end)
        )
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._lower_case = config.lower_case
        self.limit, self.sha256 = limit, file_hash(path)

    def _id(self, path: Path, mark: str) -> int:
        found = self._tokenizer.token_to_id(mark)
        if found is None:
            raise ModelError(f"{path} does not know the token '{mark}' of model.yaml")
        return int(found)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with the marks. Raises InputError over `limit` tokens."""
        read = [text.lower() if self._lower_case else text for text in texts]
        encoded = self._tokenizer.encode_batch(read, add_special_tokens=False)
        found = [[*self._begin, *item.ids, *self._end] for item in encoded]
        for ids in found:
            if len(ids) > self.limit:
                raise InputError(f'text of {len(ids)} tokens is too long (at most {self.limit})')
        return found

    def batch(self, texts: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Ids (N, L) and mask (N, L), true for real tokens; padding is behind them, of id 0."""
        found = self.ids(texts)
        length = max((len(ids) for ids in found), default=0)
        ids = torch.zeros(len(found), length, dtype=torch.long)
        mask = torch.zeros(len(found), length, dtype=torch.bool)
        for row, item in enumerate(found):
            ids[row, : len(item)] = torch.tensor(item, dtype=torch.long)
            mask[row, : len(item)] = True
        return ids.to(device), mask.to(device)

    def text(self, ids: Sequence[int]) -> str:
        """The text that ids without marks stand for."""
        return str(self._tokenizer.decode(list(ids))).strip()

    def pieces(self, text: str) -> list[int]:
        """Ids of a text without marks, however long: what a decoder says again."""
        read = text.lower() if self._lower_case else text
        return list(self._tokenizer.encode(read, add_special_tokens=False).ids)
