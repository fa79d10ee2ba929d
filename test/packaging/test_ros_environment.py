# SPDX-License-Identifier: Apache-2.0
"""The environment of ROS processes: clean, a domain of its own, shared memory that fits."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vljepa_ros.cli import ros_environment as module
from vljepa_ros.core.errors import BusyError

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
FOREIGN = {
    'PYTHONPATH': '/opt/ros/x',
    'LD_LIBRARY_PATH': '/opt/ros/x/lib',
    'AMENT_PREFIX_PATH': '/x',
    'CMAKE_PREFIX_PATH': '/x',
    'RMW_IMPLEMENTATION': 'rmw_missing',
    'ROS_DISTRO': 'humble',
    'ROS_LOCALHOST_ONLY': '1',
    'ROS_DOMAIN_ID': '0',
    'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4',
    'FASTRTPS_DEFAULT_PROFILES_FILE': '/x.xml',
    '_ROS_WHEELS_BOOTSTRAP_COMPLETE': '1',
    'ROS_STATIC_PEERS': '10.0.0.1',
    'CYCLONEDDS_URI': 'x',
    'COLCON_DEFAULTS_FILE': '/x',
}
MINE = {'ROS_LOG_DIR': '/tmp/log', 'HOME': '/root', 'ROSTER': 'kept', 'MY_ROS_X': 'kept'}
# How many of eight blocks of 31 MiB glibc maps, instead of taking them from the heap.
MAPPED = """
import ctypes
libc = ctypes.CDLL(None)
fields = 'arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost'.split()
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in fields]
libc.mallinfo2.restype, libc.malloc.restype = Info, ctypes.c_void_p
before = libc.mallinfo2().hblks
for _ in range(8):
    libc.malloc(ctypes.c_size_t(31 << 20))
print(libc.mallinfo2().hblks - before)
"""


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a separate folder for domain locks, so that existing locks have no effect."""
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    return tmp_path


def test_variables_of_a_ros_installation_are_not_inherited() -> None:
    assert module.clean(FOREIGN | MINE) == MINE


def test_shell_and_python_remove_the_same_variables() -> None:
    script = str(ROOT / 'tools' / 'clean_env.sh')
    done = subprocess.run(
        [script, 'env'],
        env=FOREIGN | MINE | {'PATH': os.environ['PATH']},
        capture_output=True,
        text=True,
        check=True,
    )
    left = dict(line.split('=', 1) for line in done.stdout.splitlines())
    for name in ('PATH', 'PWD', 'OLDPWD', 'SHLVL', '_'):
        left.pop(name, None)
    assert left == MINE | {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}


def test_the_environment_has_domain_profile_and_loopback(locks: Path) -> None:
    with module.ros_environment(domain=42) as environment:
        assert environment['ROS_DOMAIN_ID'] == '42'
        assert environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
        assert environment['PATH'].startswith(str(Path(sys.executable).parent))
        assert environment.get('FASTDDS_DEFAULT_PROFILES_FILE') == environment.get(
            'FASTRTPS_DEFAULT_PROFILES_FILE'
        )


def test_reserved_domains_are_unique(locks: Path) -> None:
    held = [module.reserve_domain() for _ in module.DOMAINS]
    assert sorted(number for number, _ in held) == list(range(1, 102))
    with pytest.raises(BusyError, match=r'1\.\.101'):
        module.reserve_domain()
    number, lock = held.pop()
    lock.close()
    again, lock = module.reserve_domain()
    assert again == number
    for _, other in [*held, (again, lock)]:
        other.close()


def test_the_message_names_the_domain_that_is_taken(locks: Path) -> None:
    with (
        module.ros_environment(domain=0),
        pytest.raises(BusyError, match='no free ROS domain: 0 taken'),
    ):
        module.reserve_domain(0)


def test_a_domain_locked_by_another_process_is_not_reserved(locks: Path) -> None:
    code = 'from vljepa_ros.cli.ros_environment import reserve_domain; print(reserve_domain(7)[0])'
    ask = [sys.executable, '-c', code]
    environment = os.environ | {'TMPDIR': str(locks)}
    with module.ros_environment(domain=7):
        taken = subprocess.run(ask, cwd=ROOT, env=environment, capture_output=True, text=True)
    free = subprocess.run(ask, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert taken.returncode != 0
    assert 'no free ROS domain: 7 taken' in taken.stderr
    assert free.stdout.split() == ['7']


def test_a_command_holds_its_domain_until_it_ends(locks: Path) -> None:
    environment = os.environ | {'TMPDIR': str(locks)}
    command = subprocess.Popen(
        [
            sys.executable,
            '-m',
            'vljepa_ros.cli.ros_environment',
            'sh',
            '-c',
            'echo $ROS_DOMAIN_ID; read line',
        ],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    number = int(command.stdout.readline())
    with pytest.raises(BusyError):
        module.reserve_domain(number)
    command.communicate('\n', timeout=30)
    module.reserve_domain(number)[1].close()


@pytest.mark.parametrize(
    'free_mib, participants, profile',
    [
        (1024, 6, 'fastdds.xml'),
        (408, 6, 'fastdds.xml'),
        (407, 6, 'fastdds_small.xml'),
        (64, 3, 'fastdds_small.xml'),
        (64, 4, None),
        (0, 1, None),
    ],
)
def test_the_profile_fits_into_shared_memory(
    free_mib: int, participants: int, profile: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = module.shared_memory_profile(participants, free_mib * MIB)
    assert (chosen.name if chosen else None) == profile
    warned = [record.message for record in caplog.records]
    assert len(warned) == (profile is None)
    assert all(f'{free_mib} MiB free' in text for text in warned)


@pytest.mark.parametrize('name, segment', [('fastdds.xml', 64), ('fastdds_small.xml', 16)])
def test_profiles_have_the_documented_segment_sizes(name: str, segment: int) -> None:
    space = '{http://www.eprosima.com}'
    root = ElementTree.parse(module.config_folder() / name).getroot()
    values = {item.tag.removeprefix(space): item.text for item in root.iter()}
    assert values['segment_size'] == str(segment * MIB)
    assert int(values['maxMessageSize'] or 0) > 1920 * 1080 * 3
    assert {item.text for item in root.iter(f'{space}type')} == {'SHM', 'UDPv4'}


def test_glibc_accepts_the_thresholds() -> None:
    def mapped(extra: dict[str, str]) -> int:
        done = subprocess.run(
            [sys.executable, '-c', MAPPED],
            env=module.clean(dict(os.environ)) | extra,
            capture_output=True,
            text=True,
        )
        if 'mallinfo2' in done.stderr:
            pytest.skip('needs glibc 2.33')
        return int(done.stdout)

    plain = {key: '' for key in module.MALLOC}
    assert mapped(plain) == 8
    assert mapped(module.MALLOC) == 0
