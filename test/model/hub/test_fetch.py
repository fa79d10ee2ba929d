# SPDX-License-Identifier: Apache-2.0
"""Downloads from the hub: resumption, verification, access tokens and errors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fake_hub import Hub, serve

from vljepa_ros.core.errors import ModelError, OutputError
from vljepa_ros.model.checkpoint_config import SourceConfig
from vljepa_ros.model.hub import fetch as module
from vljepa_ros.model.hub.fetch import download

CONTENT = bytes(range(256)) * 5000
HASH = hashlib.sha256(CONTENT).hexdigest()
SOURCE = SourceConfig('owner/name', 'best.pt', sha256=HASH)


def silent(_done: int, _total: int) -> None:
    pass


def interrupt(_path: Path) -> str:
    raise KeyboardInterrupt


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as found:
        found.put('owner/name', 'best.pt', CONTENT)
        monkeypatch.setenv('HF_ENDPOINT', found.url)
        monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
        monkeypatch.setenv('HF_TOKEN', 'secret')
        yield found


def test_a_file_is_downloaded_and_its_hash_returned(hub: Hub, tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    found = download(SOURCE, tmp_path / 'f', lambda *numbers: progress.append(numbers))
    assert found == HASH and (tmp_path / 'f').read_bytes() == CONTENT
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ['f']


def test_an_existing_file_is_verified_and_not_downloaded(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / 'f').write_bytes(CONTENT)
    assert download(SOURCE, tmp_path / 'f', silent) == HASH and not hub.asked
    (tmp_path / 'f').write_bytes(b'other')
    with pytest.raises(ModelError, match='SHA-256'):
        download(SOURCE, tmp_path / 'f', silent)


def test_an_interrupted_download_is_resumed(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = 300_000
    with pytest.raises(ModelError, match=r'300,000 .*1,280,000'):
        download(SOURCE, tmp_path / 'f', silent)
    assert not (tmp_path / 'f').exists()
    assert download(SOURCE, tmp_path / 'f', silent) == HASH
    assert hub.asked[-1][1]['Range'] == 'bytes=300000-'
    assert (tmp_path / 'f').read_bytes() == CONTENT


@pytest.mark.parametrize('received', [0, 300_000])
def test_the_total_is_0_if_the_server_does_not_send_it(
    hub: Hub, tmp_path: Path, received: int
) -> None:
    if received:
        hub.break_after = received
        with pytest.raises(ModelError, match='was lost'):
            download(SOURCE, tmp_path / 'f', silent)
    hub.sends_length = False
    reported: list[tuple[int, int]] = []
    download(SOURCE, tmp_path / 'f', lambda *numbers: reported.append(numbers))
    assert {total for _, total in reported} == {0}
    assert reported[-1][0] == len(CONTENT)


def test_a_complete_but_unverified_download_is_not_requested_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that is interrupted during hashing is complete."""
    with monkeypatch.context() as patched:
        patched.setattr(module, 'file_hash', interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(SOURCE, tmp_path / 'f', silent)
    assert (tmp_path / 'f.part').stat().st_size == len(CONTENT)
    assert download(SOURCE, tmp_path / 'f', silent) == HASH
    assert [path.name for path in tmp_path.iterdir()] == ['f']


def test_a_partial_download_unknown_to_the_hub_restarts(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / 'f.part').write_bytes(CONTENT + b'more')
    (tmp_path / 'f.part.tag').write_text(f'"{hash(CONTENT)}"')
    with pytest.raises(ModelError, match='416'):
        download(SOURCE, tmp_path / 'f', silent)
    assert download(SOURCE, tmp_path / 'f', silent) == HASH


def test_a_changed_file_is_downloaded_from_its_beginning(hub: Hub, tmp_path: Path) -> None:
    """Parts of two versions would not fit together, and no hash is pinned yet."""
    source = SourceConfig('owner/name', 'best.pt')
    hub.break_after = 300_000
    with pytest.raises(ModelError, match='300,000'):
        download(source, tmp_path / 'f', silent)
    hub.put('owner/name', 'best.pt', CONTENT[::-1])
    download(source, tmp_path / 'f', silent)
    assert (tmp_path / 'f').read_bytes() == CONTENT[::-1]


def test_a_file_with_another_hash_is_rejected_and_removed(hub: Hub, tmp_path: Path) -> None:
    hub.put('owner/name', 'best.pt', b'tampered')
    with pytest.raises(ModelError, match=HASH):
        download(SOURCE, tmp_path / 'f', silent)
    assert not [path for path in tmp_path.iterdir() if path.suffix != '.tag']


def test_the_token_is_sent_only_to_the_hub(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add('owner/name')
    download(SOURCE, tmp_path / 'f', silent)
    (_, to_hub), (_, to_store) = hub.asked
    assert to_hub['Authorization'] == 'Bearer secret' and 'Authorization' not in to_store


@pytest.mark.parametrize(
    ('token', 'repository', 'pattern'),
    [
        (
            'wrong',
            'owner/name',
            '401.*https://huggingface.co/owner/name',
        ),
        ('secret', 'owner/none', '404'),
    ],
)
def test_a_rejection_names_the_remedy(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    repository: str,
    pattern: str,
) -> None:
    hub.gated.add('owner/name')
    monkeypatch.setenv('HF_TOKEN', token)
    with pytest.raises(ModelError, match=pattern):
        download(SourceConfig(repository, 'best.pt'), tmp_path / 'f', silent)


def test_nothing_is_downloaded_offline(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    with pytest.raises(ModelError, match=r'best\.pt .*HF_HUB_OFFLINE'):
        download(SOURCE, tmp_path / 'f', silent)
    assert not hub.asked


def test_an_unreachable_hub_fails_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
    with pytest.raises(ModelError, match=r'http://127\.0\.0\.1:9/owner.*refused'):
        download(SOURCE, tmp_path / 'f', silent)


def test_insufficient_disk_space_is_reported_before_the_download(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = type('Usage', (), {'free': 1_000_000})
    monkeypatch.setattr(module.shutil, 'disk_usage', lambda _: free)
    with pytest.raises(OutputError, match=r'0\.0 GB free'):
        download(SOURCE, tmp_path / 'f', silent)
