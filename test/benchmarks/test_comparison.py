# SPDX-License-Identifier: Apache-2.0
"""Controlled comparison: equal conditions of all arms, and tiny training runs that learn."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.synthetic_streams import SCENES, film

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.comparison import ablations, cost, neutral, report, run
from benchmarks.comparison.arms import (
    EmbeddingArm,
    Language,
    TextHead,
    Trunk,
    language,
    make_arm,
    parameters,
)
from benchmarks.comparison.examples import Examples, Recording, wordings
from benchmarks.comparison.marks import Judge, candidate_texts, macro
from benchmarks.comparison.settings import Plan, Settings
from benchmarks.comparison.training import fit, train_texts
from benchmarks.comparison.writer import Writer
from vljepa_ros.core.errors import InputError
from vljepa_ros.data.format import open_split, write_stream
from vljepa_ros.data.questions import YES_NO
from vljepa_ros.data.simulators.mwstream.meanings import sentences
from vljepa_ros.model.config import (
    ModelConfig,
    PredictorConfig,
    TimeConfig,
    XEncoderConfig,
    YDecoderConfig,
)
from vljepa_ros.train.config import TextTraining

TINY = ModelConfig(
    name='tiny',
    embedding_dim=64,
    time=TimeConfig(window_tubelets=4),
    x_encoder=XEncoderConfig(image_size=32, stem=(8, 16), width=32, layers=2, heads=2),
    predictor=PredictorConfig(width=32, layers=1, heads=2, answer_tokens=2),
    y_decoder=YDecoderConfig(width=32, layers=1, heads=2, prefix_tokens=2, max_tokens=24),
)
SENTENCES = {m: sentences(m) for m in ['rest', *(f'act:{task}:{c}' for task, _, c in SCENES)]}
NO_TEXT_TRAINING = TextTraining(steps=0)
# The concepts of yes, no and colors.
SENTENCES |= {m: texts for m, texts in wordings('all').items() if m.count(':') < 2}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        TINY,
        out=tmp_path,
        windows=16,
        tubelets=4,
        questions=1,
        warmup_steps=5,
        average=0.9,
        text=TextTraining(steps=25, meanings=24, warmup_steps=5),
        captions=60,
        yes_no=20,
    )


@pytest.fixture(scope='module')
def text_side() -> Language:
    texts = [*candidate_texts(), *(t for texts in wordings('all').values() for t in texts)]
    return language(TINY, texts)


@pytest.fixture(scope='module')
def streams() -> list[Recording]:
    """Features in which each concept has its own vector, plus noise."""
    rng, codes, found = np.random.default_rng(0), dict[str, Any](), list[Recording]()
    for seed in range(6):
        annotations = film(f'train-{seed}', seed).annotations
        rows = Recording(annotations, np.zeros((int(annotations[-1].end * 5), 0, 0), np.float16))
        shown = [rows.at(t).meaning for t in range(len(rows.features))]
        for meaning in shown:
            codes.setdefault(meaning, rng.normal(size=(16, 32)))
        clean = np.stack([codes[meaning] for meaning in shown])
        noisy = clean + 0.5 * rng.normal(size=clean.shape)
        found.append(Recording(annotations, noisy.astype(np.float16)))
    return found


@pytest.fixture
def writer() -> Writer:
    torch.manual_seed(0)
    created = Writer(6, (3, 2), (32, 2, 4), torch.randn(11, 8), 9)
    return created.requires_grad_(False)


@pytest.mark.parametrize('arm', ['B', 'C'])
@pytest.mark.parametrize('size', ['as it is', 'tiny'])
def test_every_arm_has_as_many_trainable_parameters_as_arm_a(
    arm: str, size: str, text_side: Language, settings: Settings
) -> None:
    chosen = Settings() if size == 'as it is' else settings
    goal = parameters(make_arm(Plan('A'), chosen, text_side))
    assert abs(parameters(make_arm(Plan(arm), chosen, text_side)) / goal - 1) < 0.03


def test_the_trunk_is_the_same_in_all_arms(text_side: Language, settings: Settings) -> None:
    shapes = [
        {
            name: p.shape
            for name, p in make_arm(Plan(a), settings, text_side).trunk.named_parameters()
        }
        for a in ('A', 'B', 'C')
    ]
    assert set(shapes[0]) - set(shapes[1]) == {'head.weight', 'head.bias'}
    assert shapes[0] == shapes[2]
    assert all(shapes[0][name] == shape for name, shape in shapes[1].items())


def test_greedy_decoding_with_a_cache_equals_decoding_without(writer: Writer) -> None:
    prefix = torch.randn(5, 3, 6)
    tokens = torch.zeros(5, 0, dtype=torch.long)
    for _ in range(9):
        tokens = torch.cat([tokens, writer(prefix, tokens)[:, -1:].argmax(dim=-1)], dim=1)
    assert writer.greedy(prefix, steps=9) == tokens.tolist()
    cut = [row[: row.index(0)] if 0 in row else row for row in tokens.tolist()]
    assert writer.greedy(prefix) == cut


def test_a_candidates_score_is_its_mean_log_probability_per_token(writer: Writer) -> None:
    prefix, candidates = torch.randn(3, 6), [[4, 9, 2, 2, 7], [3], [5, 1]]
    found = writer.likelihood(prefix, candidates)
    for score, candidate in zip(found.tolist(), candidates, strict=True):
        total, rows = 0.0, writer(prefix[None], torch.tensor([candidate]))[0].tolist()
        for row, token in zip(rows, [*candidate, 0], strict=True):
            total += row[token] - math.log(sum(math.exp(value) for value in row))
        assert score == pytest.approx(total / (len(candidate) + 1), abs=1e-5)


def test_the_writers_loss_is_minus_the_mean_log_probability(writer: Writer) -> None:
    prefix, sentence = torch.randn(1, 3, 6), [4, 9, 2]
    loss = writer.loss(prefix, [sentence])
    assert loss.item() == pytest.approx(-writer.likelihood(prefix[0], [sentence]).item(), abs=1e-5)


def test_all_arms_and_paraphrase_sets_get_the_same_clips_in_the_same_order(
    streams: list[Recording],
) -> None:
    one = {meaning: texts[:1] for meaning, texts in SENTENCES.items()}
    first, same, short, other = (
        Examples(streams, texts, 4, 2, seed).draw(8)
        for texts, seed in ((SENTENCES, 3), (SENTENCES, 3), (one, 3), (SENTENCES, 4))
    )
    assert torch.equal(first.visual, same.visual) and first.visual.shape == (8, 4, 16, 32)
    assert first.prompts == same.prompts and first.answers == same.answers
    assert torch.equal(first.visual, short.visual) and first.prompts == short.prompts
    assert set(short.answers) <= {texts[0] for texts in SENTENCES.values()}
    assert set(first.answers) - set(short.answers)
    assert other.prompts != first.prompts


def test_the_single_paraphrase_is_the_first_of_all() -> None:
    every, one = wordings('all'), wordings('one')
    assert every['dark'] == sentences('dark') and one['dark'] == sentences('dark')[:1]
    assert {len(texts) for texts in one.values()} == {1} and every.keys() == one.keys()


@pytest.mark.parametrize('causal', [True, False])
def test_tubelets_before_the_window_do_not_change_the_output(causal: bool) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, time=TimeConfig(window_tubelets=2))
    trunk = Trunk(config, causal).requires_grad_(False)
    visual, mask = torch.randn(1, 4, 16, 32), torch.ones(1, 1, 3, dtype=torch.bool)
    prompt, moved = torch.randn(1, 1, 3, 384), torch.randn(1, 2, 16, 32)
    before = trunk.see(torch.cat([moved, visual[:, 2:]], dim=1), prompt, mask)
    within = trunk.see(torch.cat([visual[:, :2], moved], dim=1), prompt, mask)
    assert torch.allclose(trunk.see(visual, prompt, mask), before, atol=1e-6)
    assert not torch.allclose(trunk.see(visual, prompt, mask), within, atol=1e-3)


def test_without_the_causal_mask_the_first_tubelet_attends_to_the_last() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, predictor=dataclasses.replace(TINY.predictor, layers=2))
    visual = torch.randn(1, 4, 16, 32)
    moved = torch.cat([visual[:, :3], torch.randn(1, 1, 16, 32)], dim=1)
    for causal in (True, False):
        trunk = Trunk(config, causal).requires_grad_(False)
        first, other = (trunk.prefix(x)[1].keys[:, :, 0] for x in (visual, moved))
        assert torch.allclose(first, other, atol=1e-5) == causal


@pytest.mark.long
@pytest.mark.parametrize('name', ['A', 'B'])
def test_a_tiny_run_beats_chance(
    name: str,
    text_side: Language,
    streams: list[Recording],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('benchmarks.comparison.training.wordings', lambda which: SENTENCES)
    torch.manual_seed(0)
    plan = Plan(name, learning_rate=3e-3, counts=(32, 32 * 60), window=4)
    arm = make_arm(plan, settings, text_side)
    if name == 'A':
        assert isinstance(arm.texts, TextHead)
        train_texts(arm.texts, plan, settings, text_side)
    judge = Judge(streams, settings, [t for m in SENTENCES for t in SENTENCES[m] if ':' in m])
    examples = Examples(streams, SENTENCES, settings.tubelets, settings.questions, 0)
    found = fit(arm, plan, settings, examples, judge)
    assert [m['examples'] for m in found[name]] == [32, 1920]
    first, last = found[name]
    assert (
        last['top1_seen'] > 0.5 > first['top1_seen']
    )  # chance: 1 / 45, or 1 / 6 among the acts of the streams
    assert ('D' in found) == (name == 'A')


@pytest.mark.parametrize('name', ['A', 'C'])
def test_only_arm_c_trains_its_y_encoder_with_the_other_parts(
    name: str,
    text_side: Language,
    streams: list[Recording],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('benchmarks.comparison.training.wordings', lambda which: SENTENCES)
    arm = make_arm(Plan(name, window=4), settings, text_side)
    assert isinstance(arm, EmbeddingArm)
    if isinstance(arm.texts, TextHead):
        train_texts(
            arm.texts, Plan(name), dataclasses.replace(settings, text=NO_TEXT_TRAINING), text_side
        )
    arm.loss(Examples(streams, SENTENCES, 4, 1, 0).draw(4)).backward()
    moved = {p.grad is not None for p in arm.texts.parameters()}
    assert moved == {name == 'C'}
    assert all(p.grad is not None for p in [*arm.trunk.parameters(), *arm.writer.parameters()])


def test_the_y_decoder_has_no_gradient_to_the_trunk(
    text_side: Language, streams: list[Recording], settings: Settings
) -> None:
    arm, other = (make_arm(Plan('A', window=4), settings, text_side) for _ in range(2))
    other.load_state_dict(arm.state_dict())
    with torch.no_grad():
        other.writer.output.weight.mul_(3.0)
    batch, found = Examples(streams, SENTENCES, 4, 1, 0).draw(4), list[Any]()
    for each in (arm, other):
        torch.manual_seed(0)
        each.loss(batch).backward()
        found.append([p.grad for p in each.trunk.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


class YesArm:
    """Arm that answers 'yes' to every yes/no question, and counts them."""

    def __init__(self) -> None:
        self.asked = 0

    def see(self, visual: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        return torch.zeros(len(prompts), 1)

    def say(self, answers: torch.Tensor) -> list[str]:
        return ['the arm is at rest'] * len(answers)

    def score(
        self, answers: torch.Tensor, candidates: Sequence[Sequence[str]]
    ) -> list[torch.Tensor]:
        self.asked += sum(tuple(texts) == YES_NO for texts in candidates)
        return [torch.tensor([float(text == 'yes') for text in texts]) for texts in candidates]


def test_yes_and_no_are_asked_equally_often(streams: list[Recording], settings: Settings) -> None:
    arm = YesArm()
    found = Judge(streams, settings, []).judge(arm)  # type: ignore[arg-type]
    assert arm.asked == 20 and found['yes_no'] == 0.5


def test_groups_have_equal_weight() -> None:
    assert macro([1, 1, 1, 0], ['a', 'a', 'a', 'b']) == 0.5


def test_a_text_head_is_trained_once_per_seed_and_then_frozen(
    text_side: Language, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('benchmarks.comparison.training.wordings', lambda which: SENTENCES)
    heads = [make_arm(Plan('A'), settings, text_side).texts for _ in range(2)]
    for head in heads:
        assert isinstance(head, TextHead)
        train_texts(head, Plan('A'), settings, text_side)
    assert all(not p.requires_grad for p in heads[0].parameters())
    one, two = (head(['the arm is at rest']) for head in heads)
    assert torch.equal(one, two)


def fake_run(plan: Plan, settings: Settings) -> dict[str, Any]:
    del settings
    right = {'A': 0.8, 'B': 0.6, 'C': 0.5}[plan.arm] - abs(math.log10(plan.learning_rate / 1e-3))
    right += 0.1 * plan.seed + 0.05 * (plan.wordings == 'all')
    each = [{'examples': n, **dict.fromkeys(report.MARKS, right + n / 1e6)} for n in plan.counts]
    marks = {plan.arm: each} | ({'D': each} if plan.arm == 'A' else {})
    found = {'name': plan.name, 'plan': dataclasses.asdict(plan), 'marks': marks}
    return found | {'seconds': 1, 'parameters': 7_000_000}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as created:
        yield created


def test_finished_runs_are_not_repeated(
    tmp_path: Path, settings: Settings, pool: ThreadPoolExecutor
) -> None:
    path, done = tmp_path / 'results.jsonl', list[str]()

    def counting_run(plan: Plan, settings: Settings) -> dict[str, Any]:
        done.append(plan.name)
        return fake_run(plan, settings)

    assert run.execute([Plan('A'), Plan('B')], settings, path, pool, work=counting_run)
    with path.open('a') as lines:
        lines.write('{"name": "cut sho')  # a crash
        lines.write('\n')
    assert run.execute([Plan('A'), Plan('B'), Plan('C')], settings, path, pool, work=counting_run)
    assert done == [Plan(arm).name for arm in 'ABC'] and set(run.read(path)) == set(done)


def test_runs_that_exceed_the_time_budget_are_not_started(
    tmp_path: Path, settings: Settings, pool: ThreadPoolExecutor
) -> None:
    def slow(plan: Plan, settings: Settings) -> dict[str, Any]:
        return fake_run(plan, settings) | {'seconds': 10_000}

    path, deadline = tmp_path / 'results.jsonl', time.monotonic() + 600
    todo = [Plan('A', seed=seed) for seed in range(5)]
    assert not run.execute(todo, settings, path, pool, 1, deadline, slow)
    assert len(run.read(path)) == 1


def test_the_learning_rate_with_the_best_metrics_is_chosen(
    tmp_path: Path, settings: Settings, pool: ThreadPoolExecutor
) -> None:
    path = tmp_path / 'results.jsonl'
    with pytest.raises(InputError, match='learning rate'):
        run.best_rates(path)
    run.execute(run.search_plans(), settings, path, pool, work=fake_run)
    assert run.best_rates(path) == dict.fromkeys('ABC', 1e-3)


def test_the_report_contains_means_and_standard_deviations(
    tmp_path: Path, settings: Settings, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = list[Path]()
    monkeypatch.setattr(report, 'draw', lambda found, path: drawn.append(path))
    results = tmp_path / 'results.jsonl'
    run.execute(run.search_plans(), settings, results, pool, work=fake_run)
    rates = run.best_rates(results)
    run.execute(run.plans(rates, 3, 'validation'), settings, results, pool, work=fake_run)
    tried = [plan for own in ablations.plans(rates['A'], 1, 'validation').values() for plan in own]
    run.execute(tried, settings, tmp_path / 'ablations.jsonl', pool, work=fake_run)
    costs = {'open answer': [1.0, 10.0], report.MINUTE: [5.0, 50.0]}
    arms = {'A': costs, 'B': {'open answer': [2.0, 30.0]}}
    (tmp_path / 'cost.json').write_text(
        json.dumps({'changes': 20.0, 'torch': '2', 'commit': 'c', 'arms': arms})
    )
    monkeypatch.setattr(
        sys, 'argv', ['report.py', '--out', str(tmp_path), '--docs', str(tmp_path)]
    )
    report.main()
    text = (tmp_path / 'comparison.md').read_text()
    row = next(line for line in text.splitlines() if 'autoregressive | all | 3' in line)
    assert row.split('|')[4].strip() == '0.816 ± 0.100'  # 0.65 + 0.066 + 0.1, seeds differ
    assert 'validation split' in text and '65,536' in text and 'A 7,000,000' in text
    assert '| all paraphrases minus one |' in text and '+0.050' in text
    assert '| B | open answer | 2.000 | 30.0 | 2.00, 3.00 |' in text
    assert drawn == [tmp_path / 'comparison.png']
    assert len(json.loads((tmp_path / 'comparison.json').read_text())['runs']) == 9 + 18
    assert 'bidirectional prefix | 1 |' in (tmp_path / 'ablations.md').read_text()


def test_the_plot_is_written(tmp_path: Path) -> None:
    pytest.importorskip('matplotlib')
    marks = [[{'examples': n, **dict.fromkeys(report.MARKS, n / 9)} for n in (2, 4, 8)]] * 2
    found = {(arm, which): marks for arm in 'ABCD' for which in ('one', 'all')}
    report.draw(found, tmp_path / 'comparison.png')
    assert (tmp_path / 'comparison.png').stat().st_size > 10_000


def test_flops_of_a_matrix_product_are_twice_its_multiplications() -> None:
    flops, ms = cost.measure(lambda: torch.ones(30, 40) @ torch.ones(40, 50), 3)
    assert flops == pytest.approx(2 * 30 * 40 * 50 / 1e9) and ms > 0


def test_both_kinds_of_arms_have_the_compared_costs(
    text_side: Language, settings: Settings
) -> None:
    found = {}
    for arm in ('A', 'B'):
        stand = cost.Stand(make_arm(Plan(arm, window=4), settings, text_side), text_side, settings)
        with torch.inference_mode():
            found[arm] = cost.costs(stand, 20.0, 1)
    shared = {'open answer', *(f'{n} candidates' for n in (1, 10, 100))}
    assert shared <= set(found['A']) & set(found['B'])
    assert found['B']['100 candidates'][0] > 5 * found['B']['1 candidates'][0]
    assert found['A']['100 candidates, known before'][0] < 1.1 * found['A']['1 candidates'][0]


def test_cached_features_equal_those_of_one_pass(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = neutral.XEncoder(TINY.x_encoder, TINY.time).eval().requires_grad_(False)
    for seed in range(2):
        write_stream(tmp_path / 'train', film(f'train-{seed}', seed))
    streams = open_split(tmp_path / 'train').streams
    neutral.write_features(encoder, streams, tmp_path / 'features')
    for stream in streams:
        frames = torch.from_numpy(np.array(stream.frames()[:24])).unflatten(0, (12, 2))
        kept = np.load(tmp_path / 'features' / f'{stream.name}.npy')
        assert kept.shape == (180, 16, 32) and kept.dtype == np.float16
        assert np.allclose(kept[:12], encoder(frames[None])[0].numpy(), atol=5e-3)


def test_the_neutral_encoder_learns_the_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        data = film(f'train-{seed}', seed)
        bright = [1.0 * (data.frames[i].std() > 15) for i in range(len(data.frames))]
        data = dataclasses.replace(data, state={'light': np.array(bright, np.float16)})
        write_stream(tmp_path / 'train', data)
    streams = open_split(tmp_path / 'train').streams
    assert np.isnan(neutral.state_of(streams[0])[:, 0]).all()  # the gripper state is absent
    (objects, colors, things) = neutral.classes_of(streams)
    assert len(objects) > 1 and len(colors) > 1 and things == ['']
    neutral.train_encoder(streams, TINY, 300)
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    state, scene = ([float(line[i].rstrip(',')) for line in lines] for i in (-1, -5))
    assert state[-1] < 0.5 * math.log(2)
    assert scene[-1] < scene[0] < math.log(len(objects) * len(colors)) / 2


def test_hidden_frames_have_no_scene_labels(tmp_path: Path) -> None:
    data = film('train-0', 0)
    first, second, *others = data.annotations
    dark = dataclasses.replace(first, light=False)
    covered = dataclasses.replace(second, covered=True)
    write_stream(
        tmp_path / 'train', dataclasses.replace(data, annotations=(dark, covered, *others))
    )
    (stream,) = open_split(tmp_path / 'train').streams
    classes = neutral.classes_of([stream])
    scene = neutral.scene_of(stream, classes)
    hidden = round(10 * second.end)
    assert (scene[:hidden] == neutral.HIDDEN).all() and (scene[hidden:] >= 0).all()
    assert classes[0][scene[hidden, 0]] == others[0].object
    logits = torch.zeros(2, sum(map(len, classes)))
    both = torch.from_numpy(scene[[0, hidden]])
    sizes = [len(own) for own in classes]
    expected = sum(math.log(size) for size in sizes) / len(sizes)  # of the visible frame
    assert float(neutral.scene_loss(logits, both, sizes)) == pytest.approx(expected)
