# SPDX-License-Identifier: Apache-2.0
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import bags
from helpers.fake_models import solid_image
from rosbags.rosbag2 import StoragePlugin

from vljepa_ros.core.errors import InputError
from vljepa_ros.sources import Damaged, open_source
from vljepa_ros.sources.bag import Bag, stamp_of


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


def test_a_stamp_is_the_headers_not_the_recorders(tmp_path: Path) -> None:
    late = [(topic, log_ns + 7_000_000, m) for topic, log_ns, m in bags.colors(['red'], 3)]
    source = open_source(bags.write(tmp_path / 'bag', late))
    assert [frame.stamp_ns for frame in source] == bags.stamps(3)


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


def two_cameras(tmp_path: Path) -> Path:
    rows = bags.colors(['red'], 2, '/front/image_raw/compressed')
    rows += bags.colors(['blue'], 2, '/rear/image_raw/compressed')
    return bags.write(tmp_path / 'bag', sorted(rows, key=lambda row: row[1]))


def test_all_cameras_are_read_and_distinguished(tmp_path: Path) -> None:
    source = open_source(two_cameras(tmp_path))
    assert sorted(source.cameras) == ['front', 'rear']
    assert all(close(f.image, 'red' if f.source == 'front' else 'blue') for f in source)
    assert len(list(source)) == 4


def test_one_camera_can_be_chosen_and_named(tmp_path: Path) -> None:
    folder = two_cameras(tmp_path)
    assert open_source(folder, ['/rear/image_raw/compressed']).cameras == ('rear',)
    named = open_source(folder, ['arm=/rear/image_raw/compressed'])
    assert {frame.source for frame in named} == {'arm'}


def test_the_same_camera_is_not_read_twice(tmp_path: Path) -> None:
    rows = bags.colors(['red'], 2, '/camera/image_raw/compressed')
    rows += [
        ('/camera/image_raw', log_ns, bags.raw(log_ns, solid_image('red')))
        for log_ns in bags.stamps(2)
    ]
    source = open_source(bags.write(tmp_path / 'bag', sorted(rows, key=lambda row: row[1])))
    assert source.cameras == ('camera',) and len(list(source)) == 2


def test_messages_of_unknown_types_are_left_alone(tmp_path: Path) -> None:
    rows = [('/odd', bags.START_NS - 1, bags.odd(1.5)), *bags.colors(['red'], 2)]
    folder = bags.write(tmp_path / 'bag', rows)
    assert len(list(open_source(folder))) == 2
    assert {topic.type for topic in Bag(folder).topics} >= {'odd_msgs/msg/Odd'}


def test_a_folder_without_metadata_is_read_by_its_one_file(tmp_path: Path) -> None:
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
    assert 'truncated' in items[1].message
    assert [frame.stamp_ns for frame in source] == [bags.stamps(4)[i] for i in (0, 2, 3)]


def test_a_damaged_first_image_does_not_set_the_start(tmp_path: Path) -> None:
    rows = bags.colors(['red'], 3)
    rows[0] = (bags.TOPIC, rows[0][1], bags.compressed(rows[0][1], np.zeros(9, np.uint8)))
    assert open_source(bags.write(tmp_path / 'bag', rows)).start_ns == bags.stamps(2)[1]


def fails(path: Path, *parts: str, topics: tuple[str, ...] = ()) -> None:
    with pytest.raises(InputError) as caught:
        list(open_source(path, topics))
    text = str(caught.value)
    assert all(part in text for part in parts), text
    assert '\n' not in text


def test_no_image_topic_lists_the_topics(tmp_path: Path) -> None:
    folder = bags.write(tmp_path / 'bag', [('/odd', bags.START_NS, bags.odd(1.0))])
    fails(folder, 'no image topic', '/odd (odd_msgs/msg/Odd)')


def test_an_unknown_topic_lists_the_image_topics(tmp_path: Path) -> None:
    fails(two_cameras(tmp_path), "no topic '/up'", '/front/image_raw/compressed', topics=('/up',))


def test_a_topic_without_images_is_rejected(tmp_path: Path) -> None:
    rows = [('/odd', bags.START_NS - 1, bags.odd(1.5)), *bags.colors(['red'], 2)]
    fails(bags.write(tmp_path / 'bag', rows), "'/odd'", 'not an image topic', topics=('/odd',))


def test_an_empty_bag_is_reported(tmp_path: Path) -> None:
    kind = 'sensor_msgs/msg/CompressedImage'
    fails(bags.write(tmp_path / 'bag', [], topics=[(bags.TOPIC, kind)]), 'empty')


def test_a_bag_with_only_damaged_images_raises_the_reason(tmp_path: Path) -> None:
    rows = [(bags.TOPIC, t, bags.compressed(t, np.zeros(9, np.uint8))) for t in bags.stamps(3)]
    fails(bags.write(tmp_path / 'bag', rows), 'no image can be read', 'cannot be decoded')


@pytest.mark.parametrize('plugin', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('share', [0.0, 0.01, 0.5, 0.95])
def test_a_truncated_bag_is_one_line(tmp_path: Path, plugin: StoragePlugin, share: float) -> None:
    folder = bags.write(tmp_path / 'bag', bags.colors(['red', 'blue'], 30), plugin)
    file = next(p for p in folder.iterdir() if p.suffix in ('.mcap', '.db3'))
    with file.open('r+b') as stream:
        stream.truncate(int(file.stat().st_size * share))
    fails(file)
    fails(folder)


def test_a_corrupt_bag_is_one_line(tmp_path: Path) -> None:
    (tmp_path / 'x.mcap').write_bytes(b'no bag at all' * 100)
    fails(tmp_path / 'x.mcap', 'x.mcap', 'damaged or truncated')
    (tmp_path / 'x.db3').write_bytes(b'no bag at all' * 100)
    fails(tmp_path / 'x.db3', 'x.db3', 'damaged or truncated')


def test_missing_and_damaged_metadata_are_one_line(tmp_path: Path) -> None:
    folder = bags.write(tmp_path / 'bag', bags.colors(['red'], 2))
    (folder / 'metadata.yaml').write_text('rosbag2_bagfile_information: [')
    fails(folder, 'damaged')
    file = next(folder.glob('*.mcap'))
    shutil.copy(file, folder / 'second.mcap')
    (folder / 'metadata.yaml').unlink()
    fails(folder, 'no metadata.yaml', '2 bag files')


def test_a_message_too_short_for_a_header_is_refused() -> None:
    with pytest.raises(InputError, match='4 bytes'):
        stamp_of(b'\0\1\0\0')
