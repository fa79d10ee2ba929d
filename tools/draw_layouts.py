# SPDX-License-Identifier: Apache-2.0
"""Draw the panel layouts of config/foxglove.json and config/vljepa.rviz as SVG in docs/assets.

The drawings are sketches generated from the configuration files; they are not screenshots.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / 'docs' / 'assets'
WIDTH, HEIGHT, MARGIN = 880, 380, 5
TITLES = {
    'Image': 'Image',
    'RawMessages': 'Raw Messages',
    'Plot': 'Plot',
    'StateTransitions': 'State Transitions',
    'DiagnosticSummary': 'Diagnostics Summary',
    'CallService': 'Service Call',
}

Box = tuple[float, float, float, float]


def foxglove() -> str:
    """Render the panels of the Foxglove layout."""
    layout = json.loads((ROOT / 'config' / 'foxglove.json').read_text())
    boxes = split(layout['layout'], (0, 0, WIDTH, HEIGHT))
    return svg(
        [
            (box, TITLES[panel.split('!')[0]], topics(layout['configById'][panel]))
            for panel, box in boxes.items()
        ]
    )


def split(node: Any, box: Box) -> dict[str, Box]:
    """Return the box (x, y, width, height) of every panel below a node of the layout."""
    if isinstance(node, str):
        return {node: box}
    x, y, width, height = box
    share = node.get('splitPercentage', 50) / 100
    if node['direction'] == 'row':
        first = (x, y, width * share, height)
        second = (x + width * share, y, width * (1 - share), height)
    else:
        first = (x, y, width, height * share)
        second = (x, y + height * share, width, height * (1 - share))
    return split(node['first'], first) | split(node['second'], second)


def topics(value: Any) -> list[str]:
    """Return every topic or service name in a panel's configuration."""
    if isinstance(value, dict):
        return [name for item in value.values() for name in topics(item)]
    if isinstance(value, list):
        return [name for item in value for name in topics(item)]
    return [value] if isinstance(value, str) and value.startswith('/') else []


def rviz() -> str:
    """Render the panels of the RViz configuration."""
    config = yaml.safe_load((ROOT / 'config' / 'vljepa.rviz').read_text())
    panels = [panel['Name'] for panel in config['Panels']]
    displays = config['Visualization Manager']['Displays']
    names = [f'{display["Name"]}: {display["Topic"]["Value"]}' for display in displays]
    left, bottom = 250.0, 60.0
    return svg(
        [
            ((0, 0, left, HEIGHT - bottom), f'{panels[0]} (panel)', names),
            (
                (left, 0, WIDTH - left, HEIGHT - bottom),
                displays[0]['Name'],
                ['the overlay image of view_node'],
            ),
            ((0, HEIGHT - bottom, WIDTH, bottom), f'{panels[1]} (panel)', []),
        ]
    )


def svg(panels: list[tuple[Box, str, list[str]]]) -> str:
    """Render boxes with a title and lines of text."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#22242b"/>',
    ]
    for (x, y, width, height), title, names in panels:
        left, top = x + MARGIN, y + MARGIN
        lines.append(
            f'<rect x="{left:g}" y="{top:g}" width="{width - 2 * MARGIN:g}" '
            f'height="{height - 2 * MARGIN:g}" rx="4" fill="#33363f" stroke="#555a66"/>'
        )
        lines.append(
            f'<text x="{left + 10:g}" y="{top + 22:g}" fill="#ffffff" font-size="15" '
            f'font-weight="bold">{escape(title)}</text>'
        )
        lines += [
            f'<text x="{left + 10:g}" y="{top + 44 + 19 * row:g}" fill="#9fc5f8" '
            f'font-size="12" font-family="monospace">{escape(name)}</text>'
            for row, name in enumerate(names)
        ]
    return '\n'.join([*lines, '</svg>', ''])


if __name__ == '__main__':
    (ASSETS / 'foxglove_layout.svg').write_text(foxglove())
    (ASSETS / 'rviz_layout.svg').write_text(rviz())
