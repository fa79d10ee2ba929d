# SPDX-License-Identifier: Apache-2.0
"""Vision side of a streaming model at run time: encodes one tubelet per hop, answers prompts.

Shapes: S image side, P prompts, D embedding_dim, T tubelets, F frames per tubelet.
"""

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

# Number of prompts whose token states stay cached: all standing prompts, which every hop answers,
# and the same number of prompts of requests.
PROMPTS_KEPT = 2 * MAX_PROMPTS


@dataclass
class VisionState:
    """Visual state of one camera: key-value caches of each X-Encoder and Predictor layer.

    `steps`: number of tubelets since the last reset.
    """

    x_encoder: list[KeyValue | None]
    predictor: list[KeyValue | None]
    steps: int = field(default=0)


class StreamingVision:
    """Vision side of a streaming model; implements `core.protocols.Vision`.

    Only `check_prompts` and `unreadable` are safe to call from any thread.
    """

    def __init__(self, net: VLJEPA, tower: TextTower, facts: ModelFacts) -> None:
        self.facts = facts
        self._net, self._tower = net, tower
        self._prompts: OrderedDict[str, Tensor] = OrderedDict()
        self.familiarity: SceneFamiliarity | None = None
        self.readability: Readability | None = None

    def new_state(self) -> VisionState:
        """Return an empty state for one camera."""
        config = self._net.config
        return VisionState([None] * config.x_encoder.layers, [None] * config.predictor.layers)

    @torch.inference_mode()
    def step(self, state: VisionState, images: Sequence[Image]) -> None:
        """Encode the images of one tubelet, (S, S, 3) uint8 RGB each, and update `state`.

        Raises:
            InputError: The images do not match the model.
        """
        check_hop(images, self.facts)
        tubelet = self._tubelet(images)
        visual, x_encoder = self._net.x_encoder.step(tubelet, state.x_encoder)
        state.predictor = self._net.predictor.step(visual, state.predictor)
        state.x_encoder = x_encoder
        state.steps += 1

    @torch.inference_mode()
    def describe(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of a clip's tubelets, to fit the detector of unfamiliar scenes.

        Args:
            frames: Frames of the clip (T * F, S, S, 3), uint8 RGB.

        Returns:
            Features (T, n), where n is `familiarity.feature_count` of the X-Encoder.
        """
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
        """Predict the answer embeddings (P, D), float32, of P prompts at the newest tubelet.

        Raises:
            InputError: A prompt is too long, `state` has no tubelet yet, or a result is not
                finite.
        """
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
        """Return how unfamiliar the newest tubelets are, 0..1; from 0.5 on, they are unfamiliar.

        Without a detector, or before the first tubelet, the result is 0.
        """
        if self.familiarity is None or state.steps == 0:
            return 0.0
        return self.familiarity.unfamiliar(state.x_encoder)

    def unreadable(self, prompt: str) -> float:
        """Return how unreadable a prompt is, 0..1; from 0.5 on, it counts as unreadable.

        Without a detector, the result is 0.
        """
        return self.readability.unreadable(prompt) if self.readability else 0.0

    def _tubelet(self, images: Sequence[Image]) -> Tensor:
        """Convert a hop's frames to the X-Encoder's input (1, F, S, S, 3), uint8.

        If the model has a region finder, the frames are cropped to the workspace.
        """
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
