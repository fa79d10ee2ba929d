# SPDX-License-Identifier: Apache-2.0
"""Facts that are stated in several files agree."""

from __future__ import annotations

import re
import subprocess
import sys
from email import message_from_string
from pathlib import Path
from xml.etree import ElementTree

import pytest

import vljepa_ros
from vljepa_ros.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


def pins(name: str) -> dict[str, str]:
    """Return the version specifiers of a requirements file by package."""
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    pattern = re.compile(r'([\w.-]+)(?:\[\w+\])?(.*)')
    found = (pattern.match(line.partition('#')[0].strip()) for line in lines)
    return {match[1]: match[2] for match in found if match}


def test_all_files_have_the_same_version() -> None:
    """The module states it, package.xml and the changelog repeat it."""
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert package.findtext('version') == vljepa_ros.__version__
    changelog = (ROOT / 'CHANGELOG.rst').read_text()
    headings = re.findall(r'^(Forthcoming|\d[\d.]+.*)\n-+$', changelog, re.MULTILINE)
    released = [heading.split()[0] for heading in headings if heading != 'Forthcoming']
    assert headings and released[:1] in ([], [vljepa_ros.__version__])


def test_the_command_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(['--version'])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f'vljepa {vljepa_ros.__version__}\n'


def test_the_metadata_of_the_package_is_complete(tmp_path: Path) -> None:
    """What `pip install .` reads: version, dependencies, extras, the command and the license."""
    code = 'import sys; from setuptools import build_meta as b; '
    code += 'b.prepare_metadata_for_build_wheel(sys.argv[1])'
    copy = tmp_path / 'package'  # setuptools may write beside pyproject.toml
    copy.mkdir()
    for name in ('pyproject.toml', 'setup.py', 'README.md', 'LICENSE', 'requirements'):
        (copy / name).symlink_to(ROOT / name)
    (copy / 'vljepa_ros').mkdir()
    (copy / 'vljepa_ros' / '__init__.py').symlink_to(ROOT / 'vljepa_ros' / '__init__.py')
    for name in ('models', 'config'):
        (copy / name).mkdir()
    done = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path)], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob('*.dist-info')
    found = message_from_string((folder / 'METADATA').read_text())
    assert (found['Name'], found['Version']) == ('vljepa_ros', vljepa_ros.__version__)
    assert (found['License-Expression'], found['Requires-Python']) == ('Apache-2.0', '>=3.10')
    assert found.get_payload() and '# vljepa_ros' in str(found.get_payload())
    needed = [line for line in found.get_all('Requires-Dist', []) if 'extra ==' not in line]
    assert {re.split(r'[<>=;]', line)[0].strip() for line in needed} == set(pins('core.txt'))
    extras = {'data', 'train', 'tune', 'evaluate', 'dev'}
    assert set(found.get_all('Provides-Extra', [])) == extras
    commands = (folder / 'entry_points.txt').read_text()
    assert 'vljepa = vljepa_ros.cli.main:main' in commands


def test_package_xml_and_cmake_have_the_same_name() -> None:
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    cmake = re.search(r'project\((\w+)\)', (ROOT / 'CMakeLists.txt').read_text())
    assert cmake is not None
    assert package.findtext('name') == cmake[1] == 'vljepa_ros'
    assert package.get('format') == '3'


def test_deployed_versions_are_the_tested_versions() -> None:
    core, robot = pins('core.txt'), pins('robot.txt')
    robot.pop('numpy')  # the distribution's, only bounded
    assert robot == {name: core[name] for name in robot}
    from_apt = {'numpy', 'opencv-python-headless', 'pyyaml'}
    for_recordings = {'av'}  # video files; cameras and bags need no PyAV
    assert set(core) == set(robot) | from_apt | for_recordings


def test_every_ros_package_is_pinned() -> None:
    for distro in ('jazzy', 'kilted'):
        ros = pins(f'ros-{distro}.txt')
        assert len(ros) > 80
        assert all(re.fullmatch(r'==[\d.]+', pin) for pin in ros.values())
