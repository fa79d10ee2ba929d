# SPDX-License-Identifier: Apache-2.0
"""Configuration files: the key kind, and errors that name the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vljepa_ros.cli.main import main
from vljepa_ros.core.errors import InputError
from vljepa_ros.train.config import TrainConfig
from vljepa_ros.train.config_file import KINDS, parse_config, read_config
from vljepa_ros.train.fine_tuning.config import FineTuningConfig
from vljepa_ros.train.recipe.config import RecipeConfig
from vljepa_ros.train.text_decoder.config import TextDecoderTrainingConfig

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {
    'models/small/train.yaml': ('streaming', TrainConfig),
    'models/small/train_gpu.yaml': ('streaming', TrainConfig),
    'models/small/train_wide.yaml': ('streaming', TrainConfig),
    'models/small/train_wide_gpu.yaml': ('streaming', TrainConfig),
    'models/open_vljepa/tune.yaml': ('bidirectional', RecipeConfig),
    'models/vljepa_open/train.yaml': ('bidirectional', RecipeConfig),
    'models/vljepa_paper/train.yaml': ('bidirectional', RecipeConfig),
    'models/open_vljepa/words.yaml': ('text_decoder', TextDecoderTrainingConfig),
    'samples/tuning/tune.yaml': ('fine_tuning', FineTuningConfig),
}


def test_all_configurations_of_the_repository_are_listed_here() -> None:
    found = [*ROOT.glob('models/*/*.yaml'), *ROOT.glob('samples/**/*.yaml')]
    named = {str(p.relative_to(ROOT)) for p in found if 'kind: fine_tuning' in p.read_text()}
    named |= {str(p.relative_to(ROOT)) for p in found if p.stem.startswith(('train', 'tune'))}
    assert named | {'models/open_vljepa/words.yaml'} == set(SHIPPED)


@pytest.mark.parametrize('name', sorted(SHIPPED))
def test_shipped_configurations_name_their_kind(name: str) -> None:
    kind, cls = SHIPPED[name]
    assert yaml.safe_load((ROOT / name).read_text())['kind'] == kind
    assert type(read_config(ROOT / name)) is cls


@pytest.mark.parametrize('name', sorted(SHIPPED))
def test_a_missing_kind_is_an_error_that_suggests_the_right_one(name: str) -> None:
    values = yaml.safe_load((ROOT / name).read_text())
    kind = values.pop('kind')
    with pytest.raises(InputError) as caught:
        parse_config(values, Path('x/mine.yaml'))
    message = str(caught.value)
    assert message.startswith('x/mine.yaml: ') and f'`kind: {kind}`' in message
    assert ', '.join(KINDS) in message


@pytest.mark.parametrize(
    ('values', 'part'),
    [
        ({'kind': 'finetuning', 'recordings': []}, "unknown kind 'finetuning'"),
        ({'kind': ['streaming'], 'data': 'x'}, "unknown kind '['streaming']'"),
        ({'kind': None}, "unknown kind 'None'"),
        ({}, "the key 'kind' is missing"),
        ({'recordings': [], 'tune': 'lora'}, '`kind: fine_tuning`'),
        ({'kind': 'streaming', 'data': 'x', 'out': 'y'}, "'model'"),
        ({'kind': 'bidirectional', 'recordings': []}, "unknown key 'recordings'"),
        (None, 'expected a mapping, found NoneType'),
        (['kind'], 'expected a mapping, found list'),
        ('kind: streaming', 'expected a mapping, found str'),
    ],
)
def test_errors_name_the_file_and_the_problem(values: Any, part: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(values, Path('x/mine.yaml'))
    assert str(caught.value).startswith('x/mine.yaml: ') and part in str(caught.value)


def test_unreadable_files_give_a_one_line_error_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'damaged.yaml').write_text('kind: [')
    (tmp_path / 'binary.yaml').write_bytes(b'\xff\xfe\x00')
    (tmp_path / 'empty.yaml').write_text('')
    for name in ('damaged.yaml', 'binary.yaml', 'empty.yaml', 'absent.yaml'):
        assert main(['train', str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.count('\n') == 1 and str(tmp_path / name) in error
