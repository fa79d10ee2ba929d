# SPDX-License-Identifier: Apache-2.0
"""Which model a decoder is for, and the sentences that it learns."""

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
from vljepa_ros.train.text_decoder.config import WordsConfig
from vljepa_ros.train.text_decoder.pairs import read_predictions
from vljepa_ros.train.text_decoder.run import Learned, Space, WordsTraining

MAX_SENTENCES = 500_000

log = logging.getLogger(__name__)


def learn_words(config: WordsConfig) -> tuple[Path, Learned]:
    """Train a decoder, and put it into the folder of its model.

    Raises:
        ModelError: the model is unknown, damaged or not downloaded.
        InputError: it has words of its own, or a file cannot be used.
        OutputError: nothing can be written in the model's folder.
    """
    folder = registry.find(config.model)
    if isinstance(registry.read_config(folder), ModelConfig):
        raise InputError(f'model: {folder.name} came with a Y-Decoder; fine-tuning changes it')
    if not os.access(folder, os.W_OK):
        raise OutputError(f'{folder}: nothing can be written there')
    texts = read_sentences([Path(name) for name in config.sentences])
    loaded = registry.load(str(folder), config.device, parts=('bank',))
    assert isinstance(loaded.language, BankLanguage)
    tokens = loaded.language.tokens
    space = Space(loaded.language, tokens.pieces, tokens.text)
    known = read_predictions(config.predictions, loaded.language)
    kept = sayable(texts, space, config.y_decoder.max_tokens)
    learned = WordsTraining(space, kept, known, config).learn()
    text_decoder.save(learned.decoder, folder)
    return folder, learned


def read_sentences(paths: Sequence[Path]) -> list[str]:
    """The sentences of text files, one a line, each once. Raises InputError with the file."""
    found: dict[str, None] = {}
    for path in paths:
        try:
            lines = path.read_text(encoding='utf-8-sig').split('\n')  # and at nothing else
        except OSError as error:
            raise InputError(f'{path}: {error.strerror}') from error
        except UnicodeDecodeError as error:
            raise InputError(f'{path}: is no UTF-8 text (byte {error.start})') from error
        found |= dict.fromkeys(s for line in lines if (s := line.strip()) and s[0] != '#')
    if not 2 <= len(found) <= MAX_SENTENCES:
        names = ', '.join(map(str, paths))
        raise InputError(f'{names}: {len(found):,} sentences are not 2..{MAX_SENTENCES:,}')
    return list(found)


def sayable(texts: Sequence[str], space: Space, limit: int) -> list[str]:
    """Those that the model reads whole and the decoder can say; the others are counted."""
    kept = [text for text in texts if _is_sayable(text, space, limit)]
    if len(kept) < len(texts):
        log.warning(
            '%d of %d sentences are left out: too long, or with signs that the tokenizer lacks',
            len(texts) - len(kept),
            len(texts),
        )
    if len(kept) < 2:
        raise InputError(
            f'{len(kept)} of {len(texts)} sentences can be read, and said in at most {limit} '
            f'tokens (y_decoder.max_tokens)'
        )
    return kept


def _is_sayable(text: str, space: Space, limit: int) -> bool:
    try:
        space.language.check(text)
    except InputError:
        return False
    pieces = space.pieces(text)
    return len(pieces) <= limit and _letters(space.text_of(pieces)) == _letters(text)


def _letters(text: str) -> str:
    """What a tokenizer that minds neither case nor spaces must give back."""
    return ''.join(text.casefold().split())
