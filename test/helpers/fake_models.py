# SPDX-License-Identifier: Apache-2.0
"""Fake model without weights, which detects and names the mean color of an image.

Vectors are (8,): a color's direction, rotated slightly by the prompt. Deterministic and fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import Model, ModelFacts
from vljepa_ros.core.types import Candidate, Decoded, Image, Vector

COLORS = {
    'black': (0, 0, 0),
    'red': (255, 0, 0),
    'green': (0, 255, 0),
    'blue': (0, 0, 255),
    'yellow': (255, 255, 0),
    'white': (255, 255, 255),
}
DIM = 8
UNREADABLE = 'qzxv'
MAX_WORDS = 64  # limit of a text or a prompt
FACTS = ModelFacts(
    model_id='fake-00000000-00000000',
    embedding_dim=DIM,
    image_size=16,
    rate_hz=10.0,
    tubelet_frames=2,
    window_tubelets=4,
    receptive_tubelets=4,
)


def solid_image(color: str, height: int = 24, width: int = 32) -> Image:
    """Return an image of one of `COLORS`."""
    return np.full((height, width, 3), COLORS[color], np.uint8)


def direction(text: str) -> Vector:
    """Return a unit vector that depends on the text only."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], 'little')
    vector = np.random.default_rng(seed).normal(size=DIM)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def color_vector(color: str) -> Vector:
    """Return the fake's prediction for a color and an empty prompt."""
    vector = np.zeros(DIM, np.float32)
    vector[list(COLORS).index(color)] = 1.0
    return vector


@dataclass
class FakeState:
    """Colors of the encoded tubelets."""

    seen: list[str] = field(default_factory=list)


class FakeVision:
    """Detects the nearest of `COLORS` in the newest image.

    `unfamiliar_colors`: unfamiliarity of a scene by color, 0..1; other colors have 0.
    """

    def __init__(
        self, facts: ModelFacts = FACTS, unfamiliar_colors: Mapping[str, float] | None = None
    ) -> None:
        self.facts, self.unfamiliar_colors = facts, unfamiliar_colors or {}

    def new_state(self) -> FakeState:
        """Return an empty state."""
        return FakeState()

    def step(self, state: Any, images: Sequence[Image]) -> None:
        """Encode one tubelet."""
        for image in images:
            if image.shape != (self.facts.image_size, self.facts.image_size, 3):
                raise InputError(f'image {image.shape} does not match the fake')
        mean = images[-1].reshape(-1, 3).mean(axis=0)
        state.seen.append(min(COLORS, key=lambda c: float(np.abs(mean - COLORS[c]).sum())))

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Raise InputError if a prompt has too many words."""
        for words in (len(prompt.split()) for prompt in prompts):
            if words > MAX_WORDS:
                raise InputError(f'prompt of {words} words is too long (at most {MAX_WORDS})')

    def predict(self, state: Any, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return the newest color's vector, rotated slightly by each prompt."""
        if not state.seen:
            raise InputError('no frame has been encoded yet: the model cannot predict')
        self.check_prompts(prompts)
        rows = [color_vector(state.seen[-1]) + 0.2 * direction(p) * (p != '') for p in prompts]
        if not rows:
            return np.zeros((0, DIM), np.float32)
        stacked = np.stack(rows)
        return np.asarray(stacked / np.linalg.norm(stacked, axis=1, keepdims=True), np.float32)

    def unfamiliar(self, state: Any) -> float:
        """Return a value that depends on the newest color."""
        return float(self.unfamiliar_colors.get(state.seen[-1], 0.0)) if state.seen else 0.0

    def unreadable(self, prompt: str) -> float:
        """Return 1 for prompts with the word UNREADABLE."""
        return float(UNREADABLE in prompt.split())


class FakeLanguage:
    """Decodes to the nearest color; a text has the vector of the color that it names.

    Questions about the color `unseen` ('': none) are unanswerable. Texts with the word UNREADABLE
    are unreadable.
    """

    def __init__(self, facts: ModelFacts = FACTS, unseen: str = '') -> None:
        self.facts, self.unseen = facts, unseen
        self.decoded = 0

    def check(self, text: str) -> None:
        """Raise InputError for an empty text or too many words."""
        if not text.strip():
            raise InputError('a text to embed is empty')
        words = len(text.split())
        if words > MAX_WORDS:
            raise InputError(f'text of {words} words is too long (at most {MAX_WORDS})')

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a color's vector if the text names one."""
        for text in texts:
            self.check(text)
        rows = [
            next((color_vector(c) for c in COLORS if c in t.split()), direction(t)) for t in texts
        ]
        return np.stack(rows) if rows else np.zeros((0, DIM), np.float32)

    def decode(self, vectors: NDArray[np.float32], asked: bool = False) -> list[Decoded]:
        """Decode to 'the scene is <colour>', with the cosine as confidence."""
        self.decoded += len(vectors)
        found = []
        for vector in vectors:
            best = int(np.argmax(vector[: len(COLORS)]))
            text = f'the scene is {list(COLORS)[best]}'
            found.append(
                Decoded(text, float(np.clip(vector[best], 0, 1)), (Candidate('other', 0.1),))
            )
        return found

    def rank(self, vector: Vector, candidates: Sequence[str]) -> list[Candidate]:
        """Rank by the softmax of ten times the cosine."""
        logit = 10 * (self.encode(candidates) @ vector)
        score = np.exp(logit - logit.max())
        score /= score.sum()
        return [
            Candidate(candidates[i], float(score[i])) for i in np.argsort(-score, kind='stable')
        ]

    def unreadable(self, text: str) -> float:
        """Return 1 for texts with the word UNREADABLE."""
        return float(UNREADABLE in text.split())

    def is_unanswerable(self, vector: Vector, candidates: Sequence[str], text: str) -> bool:
        """Return whether the vector belongs to the color `unseen`."""
        return list(COLORS)[int(np.argmax(vector[: len(COLORS)]))] == self.unseen

    def similarity(self, vectors: NDArray[np.float32], text: str) -> NDArray[np.float32]:
        """Return cosines, with negative ones as 0."""
        return np.asarray(np.clip(vectors @ self.encode([text])[0], 0, 1), np.float32)


def fake_model(facts: ModelFacts = FACTS) -> Model:
    """Return both sides of the fake."""
    return Model(facts, FakeVision(facts), FakeLanguage(facts))
