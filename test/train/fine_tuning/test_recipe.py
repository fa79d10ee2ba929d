# SPDX-License-Identifier: Apache-2.0
"""docs/guide/fine_tuning.md from end to end: annotate a bag, edit, train, and use the model."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.annotated_bags import CAPTIONS, EACH_S, SHORT, film, tune_config
from helpers.tiny_streaming import tower
from safetensors.torch import load_file

from vljepa_ros.cli.main import main, make_parser
from vljepa_ros.model import registry
from vljepa_ros.train.config_file import read_config
from vljepa_ros.train.fine_tuning.config import FineTuningConfig, Recording
from vljepa_ros.train.fine_tuning.run import FineTuningResult, tune

ROOT = Path(__file__).resolve().parents[3]
Run = Callable[..., Any]


@pytest.fixture
def vljepa(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: (exit status, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def configuration(path: Path, **values: Any) -> Path:
    """Write the YAML file of a short training."""
    given = {'out': str(path.with_suffix('')), **SHORT, **values}
    path.write_text(yaml.safe_dump(given))
    return path


def edited_lines(printed: str, colors: list[str]) -> Iterator[str]:
    """Return the lines of annotate with other times and texts: one line per color."""
    first = json.loads(printed.splitlines()[0])
    for number, colour in enumerate(colors):
        begin = EACH_S * number
        yield json.dumps(
            {**first, 'start': begin, 'end': begin + EACH_S, 'text': CAPTIONS[colour]}
        )


def test_fine_tuning_from_a_bag_to_a_model(
    vljepa: Run, start: Path, held_out: Recording, tmp_path: Path
) -> None:
    """The fine-tuned model decodes the new texts on a bag that it was not trained on."""
    colors = ['red', 'blue', 'green', 'blue', 'red', 'green']
    bag = Path(film(tmp_path, colors, 'bag').source)
    status, printed, _ = vljepa('annotate', bag, '--json', '--model', start)
    assert status == 0
    file = tmp_path / 'bag.jsonl'
    questions = [line for line in file.read_text().splitlines() if 'prompt' in line]
    file.write_text('\n'.join([*edited_lines(printed, colors), *questions]) + '\n')
    config = configuration(
        tmp_path / 'mine.yaml',
        start=str(start),
        tune='all',
        recordings=[{'source': str(bag)}],
        validation=[{'source': held_out.source, 'annotations': held_out.annotations}],
    )
    status, out, err = vljepa('train', config, '--json')
    assert status == 0, err
    found = json.loads(out)
    assert found['folder'] == str(tmp_path / 'mine') and found['judged_on'] == 'validation'
    before, after = found['before'], found['after']
    assert (before['texts'], before['questions']) == (after['texts'], after['questions']) == (4, 4)
    assert before['said'] == 0.0 and after['said'] >= 0.75
    assert after['found'] >= 0.75 and after['found'] >= before['found'] + 0.25
    assert after['answered'] >= 0.75
    _, printed, _ = vljepa('annotate', held_out.source, '--json', '--model', tmp_path / 'mine')
    texts = {json.loads(line)['text'] for line in printed.splitlines()}
    assert texts & {text.lower() for text in CAPTIONS.values()}
    assert json.loads((tmp_path / 'mine' / 'tuning.json').read_text())['before'] == before


@pytest.fixture(scope='module')
def heads_folder(
    start: Path, training_recording: Recording, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Fine-tune the heads for three steps per stage, without validation."""
    out = tmp_path_factory.mktemp('heads') / 'mine'
    assert fine_tuned(start, training_recording, out, 'heads').judged_on == 'recordings'
    return out


def fine_tuned(
    start: Path, training_recording: Recording, out: Path, how: str
) -> FineTuningResult:
    """Fine-tune for a few steps."""
    short = {**SHORT, 'steps': 3, 'text_steps': 3, 'decoder_steps': 3}
    values = {**short, 'start': str(start), 'out': str(out), 'tune': how}
    values['recordings'] = [
        {'source': training_recording.source, 'annotations': training_recording.annotations}
    ]
    found = tune(tune_config(values, Path(f'{how}.yaml')))
    assert found.after.texts == 6
    return found


def test_heads_leave_all_other_weights_bit_identical(heads_folder: Path, start: Path) -> None:
    before, after = load_file(start / registry.WEIGHTS), load_file(heads_folder / registry.WEIGHTS)
    trained = ('predictor.norm.', 'predictor.head.', 'y_encoder.', 'y_decoder.')
    kept = [name for name in before if not name.startswith(trained)]
    assert before.keys() == after.keys() and len(kept) > 40
    for name in kept:
        assert before[name].dtype == after[name].dtype == torch.float16
        assert torch.equal(before[name], after[name]), name
    for name in ('predictor.head.weight', 'y_encoder.head.weight', 'y_decoder.prefix.weight'):
        assert not torch.equal(before[name], after[name]), name


def test_adapters_are_merged_into_an_ordinary_model(
    start: Path, training_recording: Recording, tmp_path: Path
) -> None:
    pytest.importorskip('peft')
    fine_tuned(start, training_recording, tmp_path / 'mine', 'lora')
    before, after = (load_file(f / registry.WEIGHTS) for f in (start, tmp_path / 'mine'))
    assert before.keys() == after.keys()
    name = 'x_encoder.blocks.0.qkv.weight'
    assert not torch.equal(before[name], after[name])
    assert registry.load(str(tmp_path / 'mine'), device='cpu').vision is not None


def test_new_tokens_are_appended_to_the_decoders_vocabulary(
    heads_folder: Path, start: Path
) -> None:
    before = load_file(start / registry.WEIGHTS)['y_decoder.token_ids']
    after = load_file(heads_folder / registry.WEIGHTS)['y_decoder.token_ids']
    assert torch.equal(after[: len(before)], before) and len(set(after.tolist())) == len(after)
    model = registry.load(str(heads_folder), device='cpu')
    assert model.language is not None
    tokens = tower(model.language).tokenizer.encode('fridge oven', add_special_tokens=False).ids  # type: ignore[attr-defined]
    assert set(tokens) <= set(after.tolist())


def test_the_result_has_another_name_and_the_same_calibration(
    heads_folder: Path, start: Path
) -> None:
    """Without validation recordings, the confidences of the start model are kept."""
    before, after = registry.read_config(start), registry.read_config(heads_folder)
    assert (after.name, before.name) == ('mine', 'start')
    assert after.calibration == before.calibration
    ids = {
        registry.load(str(folder), device='cpu').facts.model_id for folder in (start, heads_folder)
    }
    assert len(ids) == 2
    assert json.loads((heads_folder / 'tuning.json').read_text())['model_id'].startswith('mine-')


@pytest.mark.parametrize(
    ('values', 'more', 'part'),
    [
        ({'out': '{start}'}, [], 'out: '),
        ({'start': 'nope'}, [], "unknown model 'nope'"),
        ({'recordings': [{'source': '/gone'}]}, [], '/gone.jsonl'),
        ({}, ['--processes', '2'], '--processes'),
        ({'tune': 'none'}, [], "tune 'none'"),
    ],
)
def test_invalid_input_gives_a_one_line_error(
    vljepa: Run, start: Path, tmp_path: Path, values: dict[str, Any], more: list[str], part: str
) -> None:
    given = {'recordings': [{'source': 'x'}], 'start': str(start), **values}
    if values.get('out'):
        given['out'] = str(start)
    config = configuration(tmp_path / 'mine.yaml', **given)
    status, out, err = vljepa('train', config, *more)
    assert (status, out, err.count('\n')) == (2, '', 1), err
    assert part in err


def test_a_missing_package_is_reported_before_training(
    vljepa: Run, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'peft', None)
    given = {'start': str(start), 'tune': 'lora', 'recordings': [{'source': 'x'}]}
    status, _, err = vljepa('train', configuration(tmp_path / 'mine.yaml', **given))
    assert status == 2 and 'pip install' in err and err.count('\n') == 1
    assert not (tmp_path / 'mine').exists()


def test_an_invalid_annotation_line_is_named(
    vljepa: Run, start: Path, training_recording: Recording, tmp_path: Path
) -> None:
    file = tmp_path / 'annotations.jsonl'
    file.write_text(
        '{"start": 0, "end": 1, "text": "A."}\n{"start": 1, "end": 99, "text": "B."}\n'
    )
    given = [{'source': training_recording.source, 'annotations': str(file)}]
    config = configuration(tmp_path / 'mine.yaml', start=str(start), recordings=given)
    status, _, err = vljepa('train', config)
    assert status == 2 and f'{file}:2: ' in err and '99 s' in err and '12 s' in err


def documented_commands() -> list[str]:
    """Return the documented commands without line breaks."""
    text = (ROOT / 'docs' / 'guide' / 'fine_tuning.md').read_text()
    blocks = re.findall(r'```bash\n(.*?)```', text, re.DOTALL)
    joined = ''.join(blocks).replace('\\\n', ' ')
    return [line.partition(' > ')[0].partition('  #')[0] for line in joined.splitlines()]


def test_the_documented_commands_can_be_parsed() -> None:
    commands = [shlex.split(line) for line in documented_commands() if '.venv/bin/vljepa ' in line]
    assert {arguments[1] for arguments in commands} >= {'annotate', 'train', 'ask'}
    for arguments in commands:
        make_parser().parse_args(arguments[1:])


def test_the_sample_recipe_fits_the_sample_bag(tmp_path: Path) -> None:
    """The test checks the configuration and every annotation line, without the training."""
    config = read_config(ROOT / 'samples' / 'tuning' / 'tune.yaml')
    assert isinstance(config, FineTuningConfig)
    truth = json.loads((ROOT / 'samples' / 'bench' / 'ground_truth.json').read_text())
    spans = {(a['start'], a['end']) for a in truth['annotations']}
    for recording in (*config.recordings, *config.validation):
        assert (ROOT / recording.source / 'metadata.yaml').is_file()
        rows = [json.loads(x) for x in (ROOT / recording.annotations).read_text().splitlines()]
        assert {(r['start'], r['end']) for r in rows if 'text' in r} <= spans
    train, held_out_texts = (
        {
            json.loads(x)['text']
            for x in (ROOT / r.annotations).read_text().splitlines()
            if 'text' in x
        }
        for r in (config.recordings[0], config.validation[0])
    )
    assert held_out_texts <= train  # the validation texts are trained on, at other times


FINE_TUNE = """
import sys
from vljepa_ros.cli.main import main
status = main(['train', sys.argv[1]])
print(*(name for name in sys.modules if name.startswith('vljepa_ros.data.simulators')))
sys.exit(status)
"""


def test_fine_tuning_on_recordings_imports_no_simulator(
    start: Path, training_recording: Recording, held_out: Recording, tmp_path: Path
) -> None:
    given = [
        {'source': each.source, 'annotations': each.annotations}
        for each in (training_recording, held_out)
    ]
    config = configuration(
        tmp_path / 'mine.yaml',
        **{'steps': 2, 'text_steps': 2, 'decoder_steps': 2},
        start=str(start),
        recordings=given[:1],
        validation=given[1:],
    )
    done = subprocess.run(
        [sys.executable, '-c', FINE_TUNE, str(config)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / 'mine' / 'tuning.json').is_file()
    assert done.stdout.splitlines()[-1] == ''
