# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.comparison.report`: write docs/results/comparison.md, .png and .json.

Also writes docs/results/ablations.md if there are ablations. The plot needs
requirements/benchmarks.txt.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, run
from benchmarks.comparison import ablations
from benchmarks.comparison.cost import MINUTE
from benchmarks.comparison.run import Result, best_rates, plans, read
from benchmarks.comparison.settings import WORDINGS, Plan, Settings
from vljepa_ros.cli.common import note
from vljepa_ros.cli.main import Parser
from vljepa_ros.core.errors import InputError

NAMES = {
    'A': 'A: VL-JEPA, Y-Decoder',
    'B': 'B: autoregressive',
    'C': 'C: Y-Encoder from scratch',
    'D': 'D: nearest sentence',
}
MARKS = {
    'right': 'right captions',
    'cider': 'CIDEr-D',
    'top1_seen': 'top-1 of 45 tasks, training paraphrase',
    'top1_heldout': 'top-1 of 45 tasks, held-out paraphrase',
    'yes_no': 'yes/no',
}
DRAWN = ('right', 'cider', 'top1_heldout', 'yes_no')
OF_WORDS = ('right', 'cider')  # text metrics; in all other metrics D equals A
COLORS = {'A': '#1b6ca8', 'B': '#c8553d', 'C': '#7a9e3f', 'D': '#8a6bb1'}

# Findings, written by hand.
FINDINGS = Path(__file__).with_name('findings.md')
ABLATION_FINDINGS = Path(__file__).with_name('ablation_findings.md')

PAGE = """# VL-JEPA and an autoregressive model under equal conditions

Does predicting embeddings of texts take fewer examples than predicting their tokens, if everything
else is equal? [benchmarks/comparison](../../benchmarks/comparison/__init__.py) describes the arms,
what is equal and how to run it. This page is written by `python -m benchmarks.comparison.report`.

- Arm A is VL-JEPA with a Y-Decoder.
- Arm B is autoregressive: the Predictor's outputs are the prefix of a causal text decoder.
- Arm C is A with a Y-Encoder that starts from random weights and is trained with the other parts.
- Arm D uses A's predictions, with the nearest training sentence as text instead of a Y-Decoder.

The column *paraphrases* states whether training uses all paraphrases of a concept or only one.
Values are mean and standard deviation over seeds
on the {split} split, after {examples:,} examples.

{marks}

{findings}

![Metrics against the number of examples](comparison.png)

## All paraphrases of a concept, or one

{wordings}

## Against the number of examples

{right}

{top1}

Learning rates, chosen on validation: {rates}. Trained parameters: {sizes}.
"""
COST = """
## Cost

Measured by `python -m benchmarks.comparison.cost` in one run: one thread, float32, torch {torch},
commit {commit}. The rows "changes in words" decode one text per change ({changes:.1f} per minute,
the number of annotations in the validation streams); "every hop in words" and "every second in
words" decode a text at each hop or second. "Known before" means that the candidates' embeddings
are cached.

{table}
"""
ABLATIONS = """# Ablations

Each row changes one design choice of VL-JEPA: arm A of [the comparison](comparison.md), trained
with all paraphrases and {examples:,} examples, and evaluated on the validation split. This page is
written by `python -m benchmarks.comparison.report`.

{marks}

{findings}
"""

Curves = dict[tuple[str, str], list[list[dict[str, float]]]]  # (arm, paraphrases) -> seeds, counts


def curves(found: Mapping[str, Result], planned: Sequence[Plan]) -> Curves:
    """Return the metrics of finished plans. Raises InputError if no plan is finished."""
    kept = Curves()
    for plan in planned:
        for arm, marks in found.get(plan.name, {'marks': {}})['marks'].items():
            kept.setdefault((arm, plan.wordings), []).append(marks)
    if not kept:
        raise InputError('no finished run: python -m benchmarks.comparison.run')
    return dict(sorted(kept.items()))


def spread(runs: Sequence[Sequence[Mapping[str, float]]], mark: str, at: int = -1) -> str:
    """Format mean and standard deviation over seeds."""
    values = [run[at][mark] for run in runs]
    deviation = f' ± {np.std(values, ddof=1):.3f}' if len(values) > 1 else ''
    return f'{np.mean(values):.3f}{deviation}'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def marks_table(found: Curves) -> str:
    """Format all metrics at the largest number of examples."""
    rows = [
        [NAMES[arm], which, str(len(runs)), *(spread(runs, mark) for mark in MARKS)]
        for (arm, which), runs in found.items()
    ]
    return table(['arm', 'paraphrases', 'seeds', *MARKS.values()], rows)


def growth_table(found: Curves, mark: str) -> str:
    """Format one metric at every number of examples."""
    counts = [f'{int(m["examples"]):,}' for m in next(iter(found.values()))[0]]
    rows = [
        [NAMES[arm], which, *(spread(runs, mark, at) for at in range(len(counts)))]
        for (arm, which), runs in found.items()
    ]
    return table([MARKS[mark], 'paraphrases', *counts], rows)


def wordings_table(found: Curves) -> str:
    """Format the effect of all paraphrases instead of one, which tests the claim."""
    rows = []
    for arm in [arm for arm in NAMES if all((arm, which) in found for which in WORDINGS)]:
        one, every = ([run[-1] for run in found[arm, which]] for which in WORDINGS)
        change = [np.mean([m[k] for m in every]) - np.mean([m[k] for m in one]) for k in MARKS]
        rows.append([NAMES[arm], *(f'{value:+.3f}' for value in change)])
    return table(['all paraphrases minus one', *MARKS.values()], rows)


def cost_table(costs: Mapping[str, Any]) -> str:
    """Format GFLOPs and ms, and their ratio to A's if A has the same row."""
    rows = []
    for arm, found in costs['arms'].items():
        for what, (flops, ms) in found.items():
            known = what if what in costs['arms']['A'] else MINUTE
            base, same = costs['arms']['A'][known], arm != 'A'
            ratio = f'{flops / base[0]:.2f}, {ms / base[1]:.2f}' if same else ''
            rows.append([arm, what, f'{flops:.3f}', f'{ms:.1f}', ratio])
    return table(['arm', 'operation', 'GFLOPs', 'ms', 'relative to A: FLOPs, ms'], rows)


def comparison(
    finished: Mapping[str, Result], planned: Sequence[Plan], costs: Mapping[str, Any]
) -> str:
    """Render docs/results/comparison.md."""
    found = curves(finished, planned)
    rates = {plan.arm: plan.learning_rate for plan in planned}
    sizes = {p.arm: finished[p.name]['parameters'] for p in planned if p.name in finished}
    page = PAGE.format(
        marks=marks_table(found),
        findings=FINDINGS.read_text().strip(),
        wordings=wordings_table(found),
        right=growth_table(found, 'right'),
        top1=growth_table(found, 'top1_heldout'),
        rates=', '.join(f'{arm} {rate:g}' for arm, rate in rates.items()),
        sizes=', '.join(f'{arm} {size:,}' for arm, size in sizes.items()),
        split=planned[0].split,
        examples=planned[0].counts[-1],
    )
    return page + (COST.format(table=cost_table(costs), **costs) if costs else '')


def ablation_table(found: Mapping[str, Result], rate: float, seeds: int) -> str:
    """Render docs/results/ablations.md."""
    rows = []
    for name, planned in ablations.plans(rate, seeds, Plan.split).items():
        runs = [found[plan.name]['marks']['A'] for plan in planned if plan.name in found]
        if runs:
            rows.append([name, str(len(runs)), *(spread(runs, mark) for mark in MARKS)])
    marks = table(['', 'seeds', *MARKS.values()], rows)
    findings = ABLATION_FINDINGS.read_text().strip()
    return ABLATIONS.format(examples=ablations.COUNTS[-1], marks=marks, findings=findings)


def draw(found: Curves, path: Path) -> None:
    """Plot metrics against examples: solid lines for all paraphrases, dashed ones for one."""
    try:
        from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise InputError(
            'the plot needs matplotlib: pip install -r requirements/benchmarks.txt'
        ) from error
    pyplot.switch_backend('Agg')
    size = (4 * len(DRAWN), 4.2)
    figure, panels = pyplot.subplots(1, len(DRAWN), figsize=size, layout='constrained')
    for panel, mark in zip(panels, DRAWN, strict=True):
        for (arm, which), runs in found.items():
            if arm == 'D' and mark not in OF_WORDS:
                continue
            values = np.array([[m[mark] for m in run] for run in runs])
            examples = [int(m['examples']) for m in runs[0]]
            mean, deviation = values.mean(axis=0), values.std(axis=0)
            style = '-' if which == 'all' else '--'
            label = f'{NAMES[arm]}, {which}' if which == 'all' else f'{arm}, one paraphrase'
            panel.plot(examples, mean, style, color=COLORS[arm], marker='.', label=label)
            low, high = mean - deviation, mean + deviation
            panel.fill_between(examples, low, high, color=COLORS[arm], alpha=0.12, lw=0)
        panel.set(xscale='log', title=MARKS[mark], xlabel='examples')
        panel.set_xticks(examples, [f'{count // 1024}k' for count in examples])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.spines[['top', 'right']].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=4, frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', type=Path, default=Settings.out, help='folder of the results')
    parser.add_argument('--docs', type=Path, default=ROOT / 'docs' / 'results')
    parser.add_argument('--split', default='validation', help='split of the evaluation')
    parser.add_argument('--seeds', type=int, default=3)
    return parser.parse_args()


def main() -> None:
    """Write all pages and the plot. Raises VljepaError."""
    args = _arguments()
    results = args.out / 'results.jsonl'
    rates, finished = best_rates(results), read(results)
    planned, cost = plans(rates, args.seeds, args.split), args.out / 'cost.json'
    costs = json.loads(cost.read_text()) if cost.is_file() else {}
    (args.docs / 'comparison.md').write_text(comparison(finished, planned, costs))
    tried = read(args.out / 'ablations.jsonl')
    if tried:
        text = ablation_table(tried, rates['A'], args.seeds)
        (args.docs / 'ablations.md').write_text(text)
    kept = {'runs': list(finished.values()), 'ablations': list(tried.values()), 'costs': costs}
    (args.docs / 'comparison.json').write_text(json.dumps(kept, indent=1) + '\n')
    draw(curves(finished, planned), args.docs / 'comparison.png')
    note(f'{len(finished)} runs, {len(tried)} ablations: {args.docs}')


if __name__ == '__main__':
    sys.exit(run(main))
