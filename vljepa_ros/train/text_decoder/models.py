# SPDX-License-Identifier: Apache-2.0
"""Training of a text decoder for an installed model, from reading the data to saving."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from vljepa_ros.core.errors import InputError, OutputError
from vljepa_ros.model import registry
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.language import text_decoder
from vljepa_ros.model.language.bank_language import BankLanguage
from vljepa_ros.train.text_decoder.config import TextDecoderTrainingConfig
from vljepa_ros.train.text_decoder.pairs import read_predictions
from vljepa_ros.train.text_decoder.run import Space, TextDecoderTraining, TrainedTextDecoder

MAX_SENTENCES = 500_000

log = logging.getLogger(__name__)


def train_text_decoder(config: TextDecoderTrainingConfig) -> tuple[Path, TrainedTextDecoder]:
    """Train a text decoder and save it in the folder of its model.

    Returns:
        The folder of the model, and the trained decoder.

    Raises:
        ModelError: The model is unknown, damaged or not downloaded.
        InputError: The model has a Y-Decoder of its own, or a file is invalid.
        OutputError: The model's folder is not writable.
    """
    folder = registry.find(config.model)
    if isinstance(registry.read_config(folder), ModelConfig):
        raise InputError(
            f"model: '{folder.name}' already has a Y-Decoder: change it by fine-tuning"
        )
    if not os.access(folder, os.W_OK):
        raise OutputError(f'{folder} is not writable: change its permissions, or copy the model')
    texts = read_sentences([Path(name) for name in config.sentences])
    loaded = registry.load(str(folder), config.device, parts=('bank',))
    assert isinstance(loaded.language, BankLanguage)
    tokens = loaded.language.tokens
    space = Space(loaded.language, tokens.pieces, tokens.text)
    known = read_predictions(config.predictions, loaded.language)
    sentences = decodable_sentences(texts, space, config.y_decoder.max_tokens)
    trained = TextDecoderTraining(space, sentences, known, config).train()
    text_decoder.save(trained.decoder, folder)
    return folder, trained


def read_sentences(paths: Sequence[Path]) -> list[str]:
    """Read the distinct sentences of text files with one sentence per line.

    Empty lines, and comments that begin with #, are ignored.

    Raises:
        InputError: A file is unreadable, or the number of sentences is out of range.
    """
    found: dict[str, None] = {}
    for path in paths:
        try:
            lines = path.read_text(encoding='utf-8-sig').split('\n')  # unlike splitlines()
        except OSError as error:
            raise InputError(f'{path}: {error.strerror}') from error
        except UnicodeDecodeError as error:
            raise InputError(f'{path}: byte {error.start} is not valid UTF-8') from error
        found |= dict.fromkeys(s for line in lines if (s := line.strip()) and s[0] != '#')
    if not 2 <= len(found) <= MAX_SENTENCES:
        names = ', '.join(map(str, paths))
        raise InputError(
            f'{names}: found {len(found):,} sentences, but 2..{MAX_SENTENCES:,} are required'
        )
    return list(found)


def decodable_sentences(texts: Sequence[str], space: Space, limit: int) -> list[str]:
    """Return the sentences that the model can embed and decode; log the number of the others.

    Args:
        texts: Sentences.
        space: Text side and tokenizer of the model.
        limit: Maximum number of tokens of a decoded sentence.

    Raises:
        InputError: Fewer than two sentences are left.
    """
    valid = [text for text in texts if _is_decodable(text, space, limit)]
    if len(valid) < len(texts):
        log.warning(
            'ignored %d of %d sentences: too long, or with characters unknown to the tokenizer',
            len(texts) - len(valid),
            len(texts),
        )
    if len(valid) < 2:
        raise InputError(
            f'only {len(valid)} of {len(texts)} sentences have at most {limit} tokens and no '
            f'unknown characters: increase y_decoder.max_tokens, or use shorter sentences'
        )
    return valid


def _is_decodable(text: str, space: Space, limit: int) -> bool:
    try:
        space.language.check(text)
    except InputError:
        return False
    pieces = space.pieces(text)
    return len(pieces) <= limit and _letters(space.text_of(pieces)) == _letters(text)


def _letters(text: str) -> str:
    """Return a text in lower case and without whitespace, because tokenizers may change both."""
    return ''.join(text.casefold().split())
