# SPDX-License-Identifier: Apache-2.0
import contextlib
import dataclasses
import errno
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from helpers import bags
from helpers.fake_models import solid_image
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Frame
from vljepa_ros.sources import Damaged, open_source
from vljepa_ros.sources.bag import Bag
from vljepa_ros.sources.bag_images import stamp_of


def close(image: np.ndarray, color: str) -> bool:
    """Compare images with a tolerance for JPEG."""
    return bool(np.abs(image.astype(int) - solid_image(color)).max() < 8)


@pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('as_file', [False, True])
def test_frames_have_header_stamps_and_rgb_images(
    tmp_path: Path, plugin: StoragePlugin, as_file: bool
) -> None:
    folder = bags.write(tmp_path / 'bag', bags.colors(['red', 'blue'], 2), plugin)
    files = [p for p in folder.iterdir() if p.suffix in ('.mcap', '.db3')]
    path = files[0] if as_file else folder
    source = open_source(path)
    frames = list(source)
    assert [frame.stamp_ns for frame in frames] == bags.stamps(4)
    assert all(frame.source == 'camera' for frame in frames)
    assert close(frames[0].image, 'red') and close(frames[3].image, 'blue')
    assert (source.start_ns, source.total, source.cameras) == (bags.START_NS, 4, ('camera',))


def test_stamps_are_from_the_header(tmp_path: Path) -> None:
    late = [(topic, log_ns + 7_000_000, m) for topic, log_ns, m in bags.colors(['red'], 3)]
    source = open_source(bags.write(tmp_path / 'bag', late))
    assert [frame.stamp_ns for frame in source] == bags.stamps(3)


def test_an_image_with_a_negative_stamp_is_reported_as_damaged(tmp_path: Path) -> None:
    rows = bags.colors(['red'], 3)
    topic, log_ns, message = rows[1]
    rows[1] = topic, log_ns, bags.compressed(-(10**9), message.data)
    items = list(open_source(bags.write(tmp_path / 'bag', rows)).items())
    assert [item.stamp_ns for item in items] == bags.stamps(3)
    assert [isinstance(item, Damaged) for item in items] == [False, True, False]
    assert isinstance(items[1], Damaged) and 'negative' in items[1].message


def test_first_stamps_of_an_unset_clock_do_not_move_the_start(tmp_path: Path) -> None:
    rows = bags.colors(['red'], 40)
    for first in (1, 15):
        unset = [
            (topic, log_ns, bags.compressed(n * bags.PERIOD_NS, message.data))
            for n, (topic, log_ns, message) in enumerate(rows[:first])
        ]
        source = open_source(bags.write(tmp_path / f'bag{first}', unset + rows[first:]))
        assert source.start_ns == bags.START_NS + first * bags.PERIOD_NS


def test_a_pause_after_the_first_image_does_not_move_the_start(tmp_path: Path) -> None:
    rows = bags.colors(['red'], 40)
    (topic, log_ns, message), hour_ns = rows[0], 3600 * 10**9
    early = (topic, log_ns - hour_ns, bags.compressed(log_ns - hour_ns, message.data))
    source = open_source(bags.write(tmp_path / 'bag', [early, *rows[1:]]))
    assert source.start_ns == bags.START_NS - hour_ns


def test_iterating_again_restarts_from_the_beginning(tmp_path: Path) -> None:
    source = open_source(bags.write(tmp_path / 'bag', bags.colors(['red'], 3)))
    assert len(list(source)) == len(list(source)) == 3


def test_row_padding_of_raw_images_is_removed(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    rows = [('/f/image_raw', bags.START_NS, bags.raw(bags.START_NS, image, padding=5))]
    frame = next(iter(open_source(bags.write(tmp_path / 'bag', rows))))
    assert (frame.image == image).all() and frame.source == 'f'


def front_and_rear(count: int) -> list[bags.Row]:
    rows = bags.colors(['red'], count, '/front/image_raw/compressed')
    rows += bags.colors(['blue'], count, '/rear/image_raw/compressed')
    return sorted(rows, key=lambda row: row[1])


def two_cameras(tmp_path: Path) -> Path:
    return bags.write(tmp_path / 'bag', front_and_rear(2))


def test_all_cameras_are_read_by_name(tmp_path: Path) -> None:
    source = open_source(two_cameras(tmp_path))
    assert sorted(source.cameras) == ['front', 'rear']
    assert all(close(f.image, 'red' if f.source == 'front' else 'blue') for f in source)
    assert len(list(source)) == 4


def test_one_camera_can_be_chosen_and_named(tmp_path: Path) -> None:
    folder = two_cameras(tmp_path)
    assert open_source(folder, ['/rear/image_raw/compressed']).cameras == ('rear',)
    named = open_source(folder, ['arm=/rear/image_raw/compressed'])
    assert {frame.source for frame in named} == {'arm'}


def offered(durability: QosDurability) -> Qos:
    """Return the QoS profile that a publisher offered."""
    return Qos(
        QosHistory.KEEP_LAST,
        1,
        QosReliability.RELIABLE,
        durability,
        deadline=QosTime(0, 0),
        lifespan=QosTime(0, 0),
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=QosTime(0, 0),
        avoid_ros_namespace_conventions=False,
    )


LATCHED, PLAIN = offered(QosDurability.TRANSIENT_LOCAL), offered(QosDurability.VOLATILE)


@pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize(
    ('publishers', 'latched'),
    [((PLAIN,), False), ((LATCHED,), True), ((PLAIN, LATCHED), True), ((LATCHED, PLAIN), True)],
)
def test_a_topic_is_latched_if_one_of_its_publishers_latched(
    tmp_path: Path, plugin: StoragePlugin, publishers: tuple[Qos, ...], latched: bool
) -> None:
    [(topic, log_ns, message)] = bags.colors(['red'], 1)
    kind = message.__msgtype__
    with Writer(tmp_path / 'bag', version=9, storage_plugin=plugin) as writer:
        for profile in publishers:
            connection = writer.add_connection(
                topic, kind, typestore=bags.STORE, offered_qos_profiles=[profile]
            )
            writer.write(connection, log_ns, bags.STORE.serialize_cdr(message, kind))
    [found] = Bag(tmp_path / 'bag').topics
    assert (found.latched, found.count) == (latched, len(publishers))


def test_the_same_camera_is_not_read_twice(tmp_path: Path) -> None:
    rows = bags.colors(['red'], 2, '/camera/image_raw/compressed')
    rows += [
        ('/camera/image_raw', log_ns, bags.raw(log_ns, solid_image('red')))
        for log_ns in bags.stamps(2)
    ]
    source = open_source(bags.write(tmp_path / 'bag', sorted(rows, key=lambda row: row[1])))
    assert source.cameras == ('camera',) and len(list(source)) == 2


def test_messages_of_unknown_types_are_ignored(tmp_path: Path) -> None:
    rows = [('/odd', bags.START_NS - 1, bags.odd(1.5)), *bags.colors(['red'], 2)]
    folder = bags.write(tmp_path / 'bag', rows)
    assert len(list(open_source(folder))) == 2
    assert {topic.type for topic in Bag(folder).topics} >= {'odd_msgs/msg/Odd'}


def test_a_folder_without_metadata_is_read_from_its_only_file(tmp_path: Path) -> None:
    folder = bags.write(tmp_path / 'bag', bags.colors(['red'], 2))
    (folder / 'metadata.yaml').unlink()
    assert len(list(open_source(folder))) == 2


def test_a_damaged_image_keeps_its_position_and_the_rest_is_read(tmp_path: Path) -> None:
    rows = bags.colors(['red', 'blue'], 2)
    data = rows[1][2].data
    rows[1] = (bags.TOPIC, rows[1][1], bags.compressed(rows[1][1], data[: len(data) // 2]))
    source = open_source(bags.write(tmp_path / 'bag', rows))
    items = list(source.items())
    assert isinstance(items[1], Damaged) and items[1].stamp_ns == bags.stamps(2)[1]
    assert 'truncated' in items[1].message and not items[1].is_end
    assert [frame.stamp_ns for frame in source] == [bags.stamps(4)[i] for i in (0, 2, 3)]


def test_a_damaged_first_image_does_not_set_the_start(tmp_path: Path) -> None:
    rows = bags.colors(['red'], 3)
    rows[0] = (bags.TOPIC, rows[0][1], bags.compressed(rows[0][1], np.zeros(9, np.uint8)))
    assert open_source(bags.write(tmp_path / 'bag', rows)).start_ns == bags.stamps(2)[1]


def assert_input_error(path: Path, *parts: str, topics: tuple[str, ...] = ()) -> None:
    with pytest.raises(InputError) as caught:
        list(open_source(path, topics))
    text = str(caught.value)
    assert all(part in text for part in parts), text
    assert '\n' not in text


def test_no_image_topic_lists_the_topics(tmp_path: Path) -> None:
    folder = bags.write(tmp_path / 'bag', [('/odd', bags.START_NS, bags.odd(1.0))])
    assert_input_error(folder, 'no image topic', '/odd (odd_msgs/msg/Odd)')


def test_an_unknown_topic_lists_the_image_topics(tmp_path: Path) -> None:
    assert_input_error(
        two_cameras(tmp_path), "no topic '/up'", '/front/image_raw/compressed', topics=('/up',)
    )


def test_a_topic_without_images_is_rejected(tmp_path: Path) -> None:
    rows = [('/odd', bags.START_NS - 1, bags.odd(1.5)), *bags.colors(['red'], 2)]
    assert_input_error(
        bags.write(tmp_path / 'bag', rows), "'/odd'", 'not an image topic', topics=('/odd',)
    )


def test_an_empty_bag_is_reported(tmp_path: Path) -> None:
    kind = 'sensor_msgs/msg/CompressedImage'
    assert_input_error(bags.write(tmp_path / 'bag', [], topics=[(bags.TOPIC, kind)]), 'empty')


def test_a_bag_with_only_damaged_images_is_an_error(tmp_path: Path) -> None:
    rows = [(bags.TOPIC, t, bags.compressed(t, np.zeros(9, np.uint8))) for t in bags.stamps(3)]
    assert_input_error(
        bags.write(tmp_path / 'bag', rows), 'no image can be read', 'cannot be decoded'
    )


@pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('share', [0.0, 0.01, 0.5])
def test_a_truncated_bag_without_a_complete_image_is_one_line(
    tmp_path: Path, plugin: StoragePlugin, share: float
) -> None:
    folder = bags.write(tmp_path / 'bag', bags.colors(['red', 'blue'], 30), plugin)
    file = next(p for p in folder.iterdir() if p.suffix in ('.mcap', '.db3'))
    with file.open('r+b') as stream:
        stream.truncate(int(file.stat().st_size * share))
    assert_input_error(file)
    assert_input_error(folder)


@pytest.mark.parametrize('share', [0.3, 0.6, 0.9])
def test_a_truncated_mcap_is_read_up_to_its_end_and_says_so(tmp_path: Path, share: float) -> None:
    file = bags.write_mcap(tmp_path / 'bag_0.mcap', bags.colors(['red', 'blue'], 30))
    chunks_end = file.read_bytes().index(b'\x0f' + (4).to_bytes(8, 'little'))  # record DataEnd
    with file.open('r+b') as stream:
        stream.truncate(int(chunks_end * share))
    *frames, last = open_source(file).items()
    assert abs(len(frames) - 60 * share) <= 2
    assert [frame.stamp_ns for frame in frames] == bags.stamps(len(frames))
    assert isinstance(last, Damaged) and last.is_end and last.stamp_ns > frames[-1].stamp_ns
    assert 'bag_0.mcap' in last.message and 'ends early' in last.message
    assert 'mcap recover' in last.message


def test_an_mcap_that_lacks_only_its_index_is_read_completely(tmp_path: Path) -> None:
    file = bags.write_mcap(tmp_path / 'bag_0.mcap', bags.colors(['red'], 30))
    with file.open('r+b') as stream:
        stream.truncate(file.stat().st_size - 37)  # footer
    assert len(list(open_source(file))) == 30


def test_a_damaged_chunk_leaves_what_was_before_it(tmp_path: Path) -> None:
    file = bags.write_mcap(tmp_path / 'bag.mcap', bags.colors(['red'], 30))
    data = bytearray(file.read_bytes())
    images = [match.start() for match in re.finditer(b'\xff\xd8', data)]
    data[images[15] + 100] ^= 255
    file.write_bytes(data)
    *frames, last = open_source(file).items()
    assert 10 <= len(frames) <= 15 and isinstance(last, Damaged) and last.is_end
    assert 'damaged MCAP file' in last.message


@pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('loss', ['count 0', 'no topics', 'no file', 'not YAML', 'empty', 'gone'])
def test_the_files_count_whatever_metadata_lists(
    tmp_path: Path, plugin: StoragePlugin, loss: str
) -> None:
    folder = bags.write(tmp_path / 'bag', bags.colors(['red'], 6), plugin)
    metadata = folder / 'metadata.yaml'
    contents = yaml.safe_load(metadata.read_text())
    index = contents['rosbag2_bagfile_information']
    index['message_count'] = 0
    if loss == 'no topics':
        index['topics_with_message_count'] = []
    elif loss == 'no file':
        index['relative_file_paths'] = []
    metadata.write_text(yaml.safe_dump(contents))
    if loss in ('not YAML', 'empty'):
        metadata.write_text('rosbag2_bagfile_information: [' if loss == 'not YAML' else '')
    elif loss == 'gone':
        metadata.unlink()
    source = open_source(folder)
    assert len(list(source)) == source.total == 6
    assert len(source.notes) == (loss != 'gone')
    assert all('metadata.yaml' in line and '\n' not in line for line in source.notes)


def killed_recorder(folder: Path, keep: str) -> Path:
    """Write a bag of 60 images, of which a killed process left 30 in a file beside it."""
    bags.write(folder, bags.colors(['red', 'blue'], 15), StoragePlugin.SQLITE3)
    file = next(folder.glob('*.db3'))
    rows = [
        (stamp + 3 * 10**9, bags.STORE.serialize_cdr(message, message.__msgtype__))
        for _, stamp, message in bags.colors(['green'], 30)
    ]
    script = """
import os, pickle, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute('PRAGMA journal_mode=' + sys.argv[2])
database.execute('PRAGMA wal_autocheckpoint=0')
database.execute('PRAGMA cache_size=1')
rows = pickle.load(sys.stdin.buffer)
database.executemany('INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)', rows)
if sys.argv[2] == 'wal':
    database.commit()
os._exit(9)
"""
    command = [sys.executable, '-c', script, str(file), keep]
    rows = [(stamp, bytes(data)) for stamp, data in rows]
    assert subprocess.run(command, input=pickle.dumps(rows)).returncode == 9
    return file


@pytest.mark.parametrize('as_file', [False, True])
def test_images_in_the_wal_of_a_killed_recorder_are_read(tmp_path: Path, as_file: bool) -> None:
    file = killed_recorder(tmp_path / 'bag', 'wal')
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    assert f'{file.name}-wal' in before
    source = open_source(file if as_file else file.parent)
    assert source.total == len(list(source)) == 60
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before


def test_a_journal_of_a_killed_recorder_is_rolled_back(tmp_path: Path) -> None:
    file = killed_recorder(tmp_path / 'bag', 'delete')
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    assert f'{file.name}-journal' in before
    assert len(list(open_source(file))) == 30
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before


def split_bag(folder: Path, listed: list[str], present: list[str]) -> Path:
    """Write a bag of files with three images each, and metadata that lists some of them."""
    folder.mkdir()
    rows = bags.colors(['red'], 40)
    for number, name in enumerate(present):
        bags.write_mcap(folder / name, rows[3 * number : 3 * number + 3])
    index = {'relative_file_paths': listed, 'message_count': 3 * len(listed)}
    (folder / 'metadata.yaml').write_text(yaml.safe_dump({'rosbag2_bagfile_information': index}))
    return folder


PARTS = [f'bag_{number}.mcap' for number in range(12)]


def test_a_part_that_metadata_leaves_out_is_read_in_its_place(tmp_path: Path) -> None:
    source = open_source(split_bag(tmp_path / 'bag', PARTS[:11], PARTS))
    assert [frame.stamp_ns for frame in source] == bags.stamps(36)
    assert any('bag_11.mcap' in line and 'read' in line for line in source.notes)


def test_a_missing_part_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    folder = split_bag(tmp_path / 'bag', PARTS[:3], PARTS[:3])
    (folder / PARTS[1]).unlink()
    source = open_source(folder)
    assert len(list(source)) == 6
    assert any('missing' in line and PARTS[1] in line for line in source.notes)


@pytest.mark.parametrize('share', [0.0, 0.7])
def test_a_damaged_part_is_reported_and_the_others_are_read(tmp_path: Path, share: float) -> None:
    folder = split_bag(tmp_path / 'bag', PARTS[:3], PARTS[:3])
    with (folder / PARTS[1]).open('r+b') as stream:
        stream.truncate(int((folder / PARTS[1]).stat().st_size * share))
    source = open_source(folder)
    *frames, last = source.items()
    seen = {item.stamp_ns for item in (*frames, last) if not isinstance(item, Damaged)}
    assert {*bags.stamps(9)[:3], *bags.stamps(9)[6:]} <= seen
    told = [*source.notes, getattr(last, 'message', '')]
    assert any(PARTS[1] in line for line in told)


def test_another_recording_beside_the_bag_is_reported_and_not_read(tmp_path: Path) -> None:
    folder = split_bag(tmp_path / 'bag', PARTS[:2], [*PARTS[:2], 'other_0.mcap'])
    source = open_source(folder)
    assert len(list(source)) == 6
    assert any('other_0.mcap' in line and 'not read' in line for line in source.notes)


def test_files_of_several_recordings_without_metadata_are_refused(tmp_path: Path) -> None:
    folder = bags.write(tmp_path / 'bag', bags.colors(['red'], 2))
    shutil.copy(next(folder.glob('*.mcap')), folder / 'second.mcap')
    (folder / 'metadata.yaml').unlink()
    assert_input_error(folder, 'no usable metadata.yaml', '2 bag files')


@pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize('with_metadata', [True, False])
def test_compressed_bags_are_read(
    tmp_path: Path, plugin: StoragePlugin, mode: CompressionMode, with_metadata: bool
) -> None:
    writer = Writer(tmp_path / 'bag', version=9, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(
            bags.TOPIC, 'sensor_msgs/msg/CompressedImage', typestore=bags.STORE
        )
        for _, stamp, message in bags.colors(['red'], 4):
            data = bags.STORE.serialize_cdr(message, message.__msgtype__)
            writer.write(connection, stamp, data)
    if not with_metadata:
        (tmp_path / 'bag' / 'metadata.yaml').unlink()
    source = open_source(tmp_path / 'bag')
    assert [frame.stamp_ns for frame in source] == bags.stamps(4) and not source.notes


@pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('name', ['run #1', 'run?', 'run 100%', 'run%23', 'läuft', 'a&b=c'])
def test_any_name_of_a_bag_is_allowed(tmp_path: Path, plugin: StoragePlugin, name: str) -> None:
    folder = bags.write(tmp_path / 'bag', bags.colors(['red'], 2), plugin)
    folder = folder.rename(tmp_path / name)
    assert len(list(open_source(folder))) == 2


@pytest.mark.parametrize('profile', ['', 'ros1', 'px4'])
def test_an_mcap_of_any_profile_is_read(tmp_path: Path, profile: str) -> None:
    file = bags.write_mcap(tmp_path / 'x.mcap', bags.colors(['red'], 4), profile)
    assert len(list(open_source(file))) == 4


def test_a_channel_of_another_serialization_does_not_hide_a_camera(tmp_path: Path) -> None:
    foreign = [('/proto', stamp, b'\x0a\x01x') for stamp in bags.stamps(4)]
    file = bags.write_mcap(tmp_path / 'x.mcap', bags.colors(['red'], 4), foreign=foreign)
    assert len(list(open_source(file))) == 4
    alone = bags.write_mcap(tmp_path / 'y.mcap', [], foreign=foreign)
    assert_input_error(alone, 'no image topic', '/proto (foxglove.CompressedImage)')


def test_the_content_of_a_file_counts_not_its_name(tmp_path: Path) -> None:
    for name in ('x.mcap', 'x.db3'):
        (tmp_path / name).write_bytes(b'no bag at all' * 100)
        assert_input_error(tmp_path / name, name, 'not a bag')
    file = bags.write_mcap(tmp_path / 'recording.bin', bags.colors(['red'], 4))
    assert len(list(open_source(file))) == 4
    with contextlib.closing(sqlite3.connect(tmp_path / 'other.db3')) as database:
        database.execute('CREATE TABLE notes (id)')
    assert_input_error(tmp_path / 'other.db3', 'not a bag', "'topics'")


def test_a_bag_on_a_read_only_mount_is_read(tmp_path: Path) -> None:
    """Also one with a -wal, which SQLite can only apply by writing."""
    file = killed_recorder(tmp_path / 'bag', 'wal')
    mounted = subprocess.run(
        ['mount', '--bind', '-o', 'ro', str(file.parent), str(file.parent)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f'no permission to mount: {mounted.stderr.decode()}')
    try:
        assert len(list(open_source(file.parent))) == 60
    finally:
        subprocess.run(['umount', str(file.parent)], check=True)


def test_a_file_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so that the error is simulated."""
    file = bags.write_mcap(tmp_path / 'x.mcap', bags.colors(['red'], 4))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, 'Permission denied', str(file))

    monkeypatch.setattr(Path, 'open', refuse)
    assert_input_error(file, 'x.mcap', 'Permission denied')


def ros1_bag(tmp_path: Path) -> Path:
    return bags.write_ros1(tmp_path / 'run.bag', front_and_rear(4))


def test_a_ros_1_bag_is_read_camera_by_camera(tmp_path: Path) -> None:
    source = open_source(ros1_bag(tmp_path))
    assert sorted(source.cameras) == ['front', 'rear'] and source.total == 8
    frames = list(source)
    assert [f.stamp_ns for f in frames if f.source == 'rear'] == bags.stamps(4)
    assert all(close(f.image, 'red' if f.source == 'front' else 'blue') for f in frames)


def test_a_ros_1_bag_under_another_name_is_read(tmp_path: Path) -> None:
    assert len(list(open_source(ros1_bag(tmp_path).rename(tmp_path / 'run.mp4')))) == 8


def test_raw_images_of_a_ros_1_bag_are_read(tmp_path: Path) -> None:
    rows = [('/f/image_raw', t, bags.raw(t, solid_image('red'))) for t in bags.stamps(2)]
    frames = list(open_source(bags.write_ros1(tmp_path / 'run.bag', rows)))
    assert len(frames) == 2 and (frames[0].image == solid_image('red')).all()


def test_a_truncated_ros_1_bag_is_one_line(tmp_path: Path) -> None:
    path = ros1_bag(tmp_path)
    path.write_bytes(path.read_bytes()[:-500])
    assert_input_error(path, 'run.bag', 'ROS 1', 'rosbag reindex')


def depth(stamp_ns: int, is_compressed: bool) -> Any:
    image = np.full((8, 8), 1500, np.uint16)
    if is_compressed:
        png = np.asarray(cv2.imencode('.png', image)[1], np.uint8).ravel()
        return dataclasses.replace(bags.compressed(stamp_ns, png), format='16UC1; png compressed ')
    message = bags.raw(stamp_ns, np.zeros((8, 8, 3), np.uint8))
    return dataclasses.replace(
        message, encoding='16UC1', step=16, data=image.view(np.uint8).ravel()
    )


@pytest.mark.parametrize('topic', ['/d/image_raw', '/d/image_raw/compressed'])
def test_depth_is_left_out_of_all_topics_and_refused_by_name(tmp_path: Path, topic: str) -> None:
    is_compressed = topic.endswith('compressed')
    rows = [(topic, stamp, depth(stamp, is_compressed)) for stamp in bags.stamps(4)]
    folder = bags.write(
        tmp_path / 'bag', sorted(rows + bags.colors(['red'], 4), key=lambda row: row[1])
    )
    source = open_source(folder)
    assert source.cameras == ('camera',)
    assert all(isinstance(item, Frame) for item in source.items())
    assert len(source.notes) == 1
    assert topic in source.notes[0] and 'depth' in source.notes[0]
    assert_input_error(folder, 'depth image', topics=(topic,))
    alone = bags.write(tmp_path / 'alone', rows)
    assert_input_error(alone, 'only depth images', topic)


def test_compressed_depth_is_left_out_and_refused_by_name(tmp_path: Path) -> None:
    topic = '/d/image_raw/compressedDepth'
    rows = [(topic, stamp, depth(stamp, True)) for stamp in bags.stamps(4)]
    folder = bags.write(
        tmp_path / 'bag', sorted(rows + bags.colors(['red'], 4), key=lambda row: row[1])
    )
    source = open_source(folder)
    assert source.cameras == ('camera',) and topic in source.notes[0]
    assert_input_error(folder, 'depth images', topics=(topic,))


@pytest.mark.parametrize('topic', ['/front/jpeg', '/camera', '/x/video_frames'])
def test_a_compressed_topic_may_have_any_name(tmp_path: Path, topic: str) -> None:
    folder = bags.write(tmp_path / 'bag', bags.colors(['red'], 4, topic))
    assert len(list(open_source(folder))) == len(list(open_source(folder, [topic]))) == 4


def test_a_message_too_short_for_a_header_is_refused() -> None:
    with pytest.raises(InputError, match='4 bytes'):
        stamp_of(b'\0\1\0\0')
