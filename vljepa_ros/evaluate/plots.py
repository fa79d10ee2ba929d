# SPDX-License-Identifier: Apache-2.0
"""Plot of the results of the suite selective: CIDEr-D against decodes per second.

Plotting requires matplotlib, which the extra `evaluate` installs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vljepa_ros.core.errors import InputError, OutputError
from vljepa_ros.evaluate.report import Points

LEVEL = 'baseline'  # drawn as a horizontal line at the CIDEr-D of its single point
STYLES: dict[str, dict[str, Any]] = {
    'ours': {'color': '#1b6ca8', 'marker': 'o', 'linewidth': 2.2},
    'offline Ward': {'color': '#c8553d', 'marker': 's'},
    'uniform + pooling': {'color': '#7a9e3f', 'marker': '^'},
    'uniform': {'color': '#8a8a8a', 'marker': 'v'},
    'motion energy': {'color': '#c9a227', 'marker': 'd'},
    'ours by default': {'color': '#1b6ca8', 'marker': 'P', 'markersize': 13, 'linestyle': ''},
    'oracle boundaries': {'color': '#8a6bb1', 'marker': '*', 'markersize': 14, 'linestyle': ''},
}


def need_pyplot() -> Any:
    """Return matplotlib.pyplot with the backend Agg. Raises InputError if it is not installed."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise InputError("a plot needs matplotlib (pip install '.[evaluate]')") from error
    pyplot.switch_backend('Agg')
    return pyplot


def draw(curves: Mapping[str, Points], path: Path) -> None:
    """Plot named curves of points (decodes per second, CIDEr-D) to an image file.

    The suffix of `path` sets the file format.

    Raises:
        InputError: There are no curves, or matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    if not curves:
        raise InputError('the report has no curves to plot')
    pyplot = need_pyplot()
    figure, panel = pyplot.subplots(figsize=(7, 4.6), layout='constrained')
    for name, points in curves.items():
        if name == LEVEL:
            panel.axhline(points[0][1], color='black', linestyle='--', linewidth=1, label=name)
        else:
            panel.plot(*zip(*points, strict=True), label=name, **STYLES.get(name, {}))
    panel.set(xscale='log', xlabel='decodes per second', ylabel='CIDEr-D')
    panel.xaxis.set_major_formatter('{x:g}')
    panel.grid(alpha=0.3)
    panel.spines[['top', 'right']].set_visible(False)
    panel.legend(frameon=False)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:  # ValueError: unknown suffix
        reason = getattr(error, 'strerror', None) or error
        raise OutputError(f'cannot write {path}: {reason}') from error
    finally:
        pyplot.close(figure)
