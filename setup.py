# SPDX-License-Identifier: Apache-2.0
"""`pip install .`: the library without ROS, with its models, and the `vljepa` command.

On a robot `colcon build` builds the same package with its interfaces and nodes (CMakeLists.txt).
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """The lines of a requirements file that name packages."""
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def files(folder: str) -> list[tuple[str, list[str]]]:
    """Every file below a folder, to be installed below share/vljepa_ros."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob('*')):
        if path.is_file():
            relative = path.relative_to(ROOT)
            found.setdefault(f'share/vljepa_ros/{relative.parent}', []).append(str(relative))
    return list(found.items())


setup(
    name='vljepa_ros',
    version='0.1.0',
    description='Streaming VL-JEPA: semantic embeddings, text events and answers from cameras',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['vljepa_ros', 'vljepa_ros.*']),
    package_data={'vljepa_ros': ['py.typed', '**/*.yaml', '**/*.json', '**/*.npz']},
    data_files=files('models') + files('config'),
    install_requires=requirements('core.txt'),
    extras_require={
        name: requirements(f'{name}.txt') for name in ('data', 'train', 'tune', 'evaluate', 'dev')
    },
    entry_points={'console_scripts': ['vljepa = vljepa_ros.cli.main:main']},
)
