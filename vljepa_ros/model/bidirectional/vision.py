# SPDX-License-Identifier: Apache-2.0
"""Vision side of a bidirectional model at run time: encodes hops of frames, answers prompts.

Shapes: S image side, P prompts, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Image
from vljepa_ros.model.bidirectional.image_encoder import EncoderState, ImageEncoder
from vljepa_ros.model.bidirectional.predictor import Predictor
from vljepa_ros.model.frame_check import check_hop
from vljepa_ros.model.language.tokenizer import Tokens

PROMPTS_AT_ONCE = 4  # batch size; every prompt needs memory for its own copy of the visual tokens


class BidirectionalVision:
    """Vision side of a bidirectional model; implements `core.protocols.Vision`.

    Only `check_prompts` and `unreadable` are safe to call from any thread.
    """

    def __init__(
        self, predictor: Predictor, encoder: ImageEncoder, tokens: Tokens, facts: ModelFacts
    ) -> None:
        self.facts = facts
        self._predictor, self._encoder, self._tokens = predictor, encoder, tokens
        self._device = torch.device(facts.device)

    def new_state(self) -> EncoderState:
        """Return an empty state for one camera."""
        return self._encoder.new_state()

    @torch.inference_mode()
    def step(self, state: EncoderState, images: Sequence[Image]) -> None:
        """Add the images of one hop, (S, S, 3) uint8 RGB each, to `state`.

        Raises:
            InputError: The images do not match the model.
        """
        check_hop(images, self.facts)
        hop = torch.from_numpy(np.stack(images)).unsqueeze(0).to(self._device)
        self._encoder.push(state, hop)

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Raise InputError if a prompt has too many tokens."""
        self._tokens.ids(prompts)

    @torch.inference_mode()
    def predict(self, state: EncoderState, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Predict the answer embeddings (P, D), float32, of P prompts from the newest window.

        Raises:
            InputError: A prompt is too long, `state` has no frame yet, or a result is not finite.
        """
        if not state.recent:
            raise InputError('no frame has been encoded yet: the model cannot predict')
        self.check_prompts(prompts)
        rows = [np.zeros((0, self.facts.embedding_dim), np.float32)]
        for start in range(0, len(prompts), PROMPTS_AT_ONCE):
            rows.append(self._answers(state, prompts[start : start + PROMPTS_AT_ONCE]))
        result = np.concatenate(rows)
        if not np.isfinite(result).all():
            raise InputError('the model produced a vector that is not finite')
        return result

    def unfamiliar(self, state: EncoderState) -> float:
        """Return 0.0: this model has no detector of unfamiliar scenes."""
        return 0.0

    def unreadable(self, prompt: str) -> float:
        """Return 0.0: this model has no detector of unreadable texts."""
        return 0.0

    def _answers(self, state: EncoderState, prompts: Sequence[str]) -> NDArray[np.float32]:
        ids, mask = self._tokens.batch(prompts, self._device)
        visual = self._encoder.tokens(state).expand(len(prompts), -1, -1)
        answers: NDArray[np.float32] = self._predictor(visual, ids, mask).cpu().numpy()
        return answers
