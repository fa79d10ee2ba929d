# SPDX-License-Identifier: Apache-2.0
"""The part of `pip install .` that pyproject.toml cannot state: files below share/vljepa_ros."""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def files(folder: str) -> list[tuple[str, list[str]]]:
    """Every file below a folder, to be installed below share/vljepa_ros."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob('*')):
        if path.is_file():
            relative = path.relative_to(ROOT)
            found.setdefault(f'share/vljepa_ros/{relative.parent}', []).append(str(relative))
    return list(found.items())


setup(data_files=files('models') + files('config') + files('msg'))
