# SPDX-License-Identifier: Apache-2.0
"""A classifier model whose classes are the three colors, and its folder.

Its features are the mean red, green and blue of an image, and its logits are 20 times as large.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from vljepa_ros.model.config import TextTowerConfig
from vljepa_ros.model.streaming.text_tower import TextTower

SIZE, DIM = 8, 3
COLORS = ('red', 'green', 'blue')
SENTENCES = ('something red', 'something green', 'something blue')


def graph(size: int = SIZE, classes: int = len(COLORS)) -> onnx.ModelProto:
    """Return the ONNX graph of the classifier."""
    scale = np.float32(1 / 255)
    logits = 20 * np.eye(3, classes, dtype=np.float32)
    nodes = [
        helper.make_node('Cast', ['images'], ['pixels'], to=TensorProto.FLOAT),
        helper.make_node('Mul', ['pixels', 'scale'], ['scaled']),
        helper.make_node('ReduceMean', ['scaled'], ['features'], axes=[1, 2], keepdims=0),
        helper.make_node('MatMul', ['features', 'weights'], ['logits']),
    ]
    made = helper.make_graph(
        nodes,
        'tiny',
        [helper.make_tensor_value_info('images', TensorProto.UINT8, [1, size, size, 3])],
        [
            helper.make_tensor_value_info('features', TensorProto.FLOAT, [1, 3]),
            helper.make_tensor_value_info('logits', TensorProto.FLOAT, [1, classes]),
        ],
        [numpy_helper.from_array(scale, 'scale'), numpy_helper.from_array(logits, 'weights')],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid('', 13)], ir_version=8)


def save(folder: Path) -> Path:
    """Save the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(graph(), str(folder / 'net.onnx'))
    tower = TextTower(TextTowerConfig(), torch.device('cpu'))
    classes = tower.sentence_embeddings([f'something {color}' for color in COLORS], 16)
    tensors = {
        'classes': classes.astype(np.float16),
        'mean': np.full(3, 0.25, np.float32),
        'projection': np.eye(3, DIM, dtype=np.int8),
    }
    save_file(tensors, folder / 'weights.safetensors')
    (folder / 'sentences.txt').write_text('\n'.join(SENTENCES))
    values = {
        'name': 'tiny_classifier',
        'kind': 'classifier',
        'nets': [{'file': 'net.onnx', 'image_size': SIZE}],
        'feature_dim': DIM,
        'semantic_share': 0.2,
        'calibration': {'match_centre': 0.35, 'match_scale': 0.02, 'rank_temperature': 0.02},
    }
    (folder / 'model.yaml').write_text(yaml.safe_dump(values))
    return folder
