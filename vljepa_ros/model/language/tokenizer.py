# SPDX-License-Identifier: Apache-2.0
"""Tokenization of texts with a tokenizer.json of the model folder.

A separate mask marks padding, because token ids cannot: Llama pads with its end-of-text id, so a
mask computed from ids would hide real tokens.

Shapes: N texts, L number of tokens of the longest text.
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
    """Tokenizer that adds special tokens to texts and rejects texts that are too long.

    `limit`: maximum number of tokens, including special tokens. `sha256`: hash of the file.
    """

    def __init__(self, folder: Path, config: TokenizerConfig, limit: int) -> None:
        from tokenizers import Tokenizer

        path = folder / config.file
        if not path.is_file():
            raise ModelError(
                f'{path} is missing: download it with `vljepa models get {folder.resolve().name}`'
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust library raises plain Exception
            raise ModelError(f'{path} is damaged: {str(error).splitlines()[0]:.200}') from error
        # Special tokens come from model.yaml only, because not every tokenizer.json adds them.
        self._begin, self._end = (
            [self._id(path, token)] if token else [] for token in (config.begin, config.end)
        )
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._lower_case = config.lower_case
        self.limit, self.sha256 = limit, file_hash(path)

    def _id(self, path: Path, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ModelError(f"{path} does not contain the token '{token}' of model.yaml")
        return int(found)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, including special tokens, without padding.

        Raises:
            InputError: A text has more than `limit` tokens.
        """
        cased = [text.lower() if self._lower_case else text for text in texts]
        encoded = self._tokenizer.encode_batch(cased, add_special_tokens=False)
        found = [[*self._begin, *item.ids, *self._end] for item in encoded]
        for ids in found:
            if len(ids) > self.limit:
                raise InputError(f'a text of {len(ids)} tokens is too long (at most {self.limit})')
        return found

    def batch(self, texts: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """Tokenize texts into ids (N, L), right-padded with 0, and a mask (N, L) of real tokens.

        Raises:
            InputError: A text has more than `limit` tokens.
        """
        found = self.ids(texts)
        length = max((len(ids) for ids in found), default=0)
        ids = torch.zeros(len(found), length, dtype=torch.long)
        mask = torch.zeros(len(found), length, dtype=torch.bool)
        for row, item in enumerate(found):
            ids[row, : len(item)] = torch.tensor(item, dtype=torch.long)
            mask[row, : len(item)] = True
        return ids.to(device), mask.to(device)

    def text(self, ids: Sequence[int]) -> str:
        """Decode token ids into a text without special tokens."""
        return str(self._tokenizer.decode(list(ids))).strip()

    def pieces(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens and without a length limit.

        A text decoder is trained to generate these ids.
        """
        cased = text.lower() if self._lower_case else text
        return list(self._tokenizer.encode(cased, add_special_tokens=False).ids)
