# SPDX-License-Identifier: Apache-2.0
"""Vision side of a streaming model at run time: X-Encoder and Predictor, one tubelet per step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.settings import MAX_PROMPTS
from vljepa_ros.core.types import Image
from vljepa_ros.model.frame_check import check_hop
from vljepa_ros.model.language.readability import Readability
from vljepa_ros.model.streaming import familiarity
from vljepa_ros.model.streaming.block import KeyValue
from vljepa_ros.model.streaming.familiarity import SceneFamiliarity
from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.model.streaming.text_tower import TextTower

# Number of prompts whose token states stay cached: all standing prompts, which every hop uses,
# and as many prompts of requests.
PROMPTS_KEPT = 2 * MAX_PROMPTS


@dataclass
class VisionState:
    """Caches of one camera, one entry per layer; `steps` counts tubelets since the last reset."""

    x_encoder: list[KeyValue | None]
    predictor: list[KeyValue | None]
    steps: int = field(default=0)


class StreamingVision:
    """Implements `core.protocols.Vision`.

    Only `check_prompts` and `unreadable` are safe to call from any thread.
    """

    def __init__(self, net: VLJEPA, tower: TextTower, facts: ModelFacts) -> None:
        self.facts = facts
        self._net, self._tower = net, tower
        self._prompts: OrderedDict[str, Tensor] = OrderedDict()
        self.familiarity: SceneFamiliarity | None = None
        self.readability: Readability | None = None

    def new_state(self) -> VisionState:
        """Return empty caches for one camera."""
        config = self._net.config
        return VisionState([None] * config.x_encoder.layers, [None] * config.predictor.layers)

    @torch.inference_mode()
    def step(self, state: VisionState, images: Sequence[Image]) -> None:
        """Advance `state` by one tubelet of (S, S, 3) uint8 RGB images."""
        check_hop(images, self.facts)
        tubelet = self._tubelet(images)
        visual, x_encoder = self._net.x_encoder.step(tubelet, state.x_encoder)
        state.predictor = self._net.predictor.step(visual, state.predictor)
        state.x_encoder = x_encoder
        state.steps += 1

    @torch.inference_mode()
    def describe(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return features (T, F) of a clip (T * tubelet_frames, S, S, 3) to fit the detector."""
        per, found = self.facts.tubelet_frames, list[NDArray[np.float32]]()
        caches: list[KeyValue | None] = [None] * self._net.config.x_encoder.layers
        for start in range(0, len(frames) - per + 1, per):
            tubelet = self._tubelet(list(frames[start : start + per]))
            caches = familiarity.first_layers(self._net.x_encoder, tubelet, caches)
            found.append(familiarity.pooled(caches, 1))
        return np.concatenate(found)

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Raise InputError if a prompt has too many tokens."""
        self._tower.tokens(prompts, self._net.config.predictor.max_prompt_tokens)

    @torch.inference_mode()
    def predict(self, state: VisionState, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return answer embeddings (P, D), float32, of the prompts for the stream of `state`."""
        if state.steps == 0:
            raise InputError('no frame has been encoded yet: the model cannot predict')
        if not prompts:
            return np.zeros((0, self.facts.embedding_dim), np.float32)
        found = [self._prompt(text) for text in prompts]
        length = max(states.shape[0] for states in found)
        states = found[0].new_zeros(len(found), length, found[0].shape[-1])
        mask = torch.zeros(len(found), length, dtype=torch.bool, device=states.device)
        for row, item in enumerate(found):
            states[row, : item.shape[0]] = item
            mask[row, : item.shape[0]] = True
        vectors = self._net.predictor.ask(state.predictor, states, mask).float()
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
        result: NDArray[np.float32] = vectors.cpu().numpy()
        if not np.isfinite(result).all():
            raise InputError('the model produced a vector that is not finite')
        return result

    @torch.inference_mode()
    def unfamiliar(self, state: VisionState) -> float:
        """Return how unfamiliar the newest tubelets are, 0..1, with threshold 0.5.

        The result is 0 without a detector and before the first step.
        """
        if self.familiarity is None or state.steps == 0:
            return 0.0
        return self.familiarity.unfamiliar(state.x_encoder)

    def unreadable(self, prompt: str) -> float:
        """Return how unreadable a prompt is, 0..1, with threshold 0.5; 0 without a detector."""
        return self.readability.unreadable(prompt) if self.readability else 0.0

    def _tubelet(self, images: Sequence[Image]) -> Tensor:
        """Return the X-Encoder's images (1, F, S, S, 3) of a hop's frames."""
        finder = self._net.region_finder
        cropped = finder.crop(images) if finder else images
        return torch.from_numpy(np.stack(cropped)).unsqueeze(0).to(self._tower.device)

    def _prompt(self, text: str) -> Tensor:
        if text not in self._prompts:
            limit = self._net.config.predictor.max_prompt_tokens
            states, _ = self._tower.states([text], limit)
            dtype = next(self._net.predictor.parameters()).dtype
            self._prompts[text] = states[0].to(dtype)
            if len(self._prompts) > PROMPTS_KEPT:
                self._prompts.popitem(last=False)
        self._prompts.move_to_end(text)
        return self._prompts[text]
