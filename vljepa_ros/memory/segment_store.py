# SPDX-License-Identifier: Apache-2.0
"""SQLite file of the memory: float16 embeddings with stamps, and segments with texts.

Writes are small (0.5 kB per hop), so a separate file for the vectors would not be faster.

A hop is one inference step of a stream and has one embedding. Shapes: N hops, D = `embedding_dim`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.types import StreamKey, Vector
from vljepa_ros.memory.sqlite_file import Database
from vljepa_ros.memory.stream_memory import SegmentName, StoredSegment

VERSION = 3
TABLES = """
CREATE TABLE streams (
    id INTEGER PRIMARY KEY, source TEXT, prompt TEXT, model_id TEXT,
    UNIQUE (source, prompt, model_id)
);
CREATE TABLE hops (
    stream INTEGER, stamp_ns INTEGER, vector BLOB, unfamiliar REAL DEFAULT 0,
    PRIMARY KEY (stream, stamp_ns)
) WITHOUT ROWID;
CREATE TABLE segments (
    stream INTEGER, session TEXT, number INTEGER, start_ns INTEGER, end_ns INTEGER, vector BLOB,
    text TEXT DEFAULT '', nearest INTEGER DEFAULT 0, unfamiliar REAL DEFAULT 0,
    PRIMARY KEY (stream, session, number)
) WITHOUT ROWID;
CREATE INDEX ended ON segments (end_ns);
"""
# Statements that upgrade a file to the next version, by the version of the file.
MIGRATIONS = {
    2: """
    ALTER TABLE hops ADD COLUMN unfamiliar REAL DEFAULT 0;
    ALTER TABLE segments ADD COLUMN unfamiliar REAL DEFAULT 0;
    """,
}


class StoredEmbeddings(NamedTuple):
    """Stored embeddings of one stream: ascending stamps (N,), vectors (N, D) and scores (N,).

    `unfamiliar` is how unfamiliar the scene of each hop is to the model, 0..1.
    """

    stamps_ns: NDArray[np.int64]
    vectors: NDArray[np.float32]
    unfamiliar: NDArray[np.float32]


class Store:
    """SQLite file of embeddings and segments, from any number of models. Not thread-safe."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        """Open the file, or create it unless `read_only`; raises the errors of `Database`."""
        self.path = path
        self._base = Database(path, 'memory', TABLES, VERSION, read_only, MIGRATIONS)
        older = self._base.version < 3  # a read-only file is not upgraded
        self._unfamiliar = '0' if older else 'unfamiliar'
        self._ids: dict[StreamKey, int] = {}
        [(newest,)] = self._base.read('SELECT ifnull(max(id), 0) FROM streams')
        self._next_id = newest + 1

    # Writing. Raises OutputError if too many writes wait for the file. `commit` raises OutputError
    # while the file cannot be written.

    def put_hop(
        self, key: StreamKey, stamp_ns: int, vector: Vector, unfamiliar: float = 0.0
    ) -> None:
        """Write one embedding, replacing an embedding of the same stream and stamp."""
        self._write(
            'INSERT OR REPLACE INTO hops (stream, stamp_ns, vector, unfamiliar) '
            'VALUES (?, ?, ?, ?)',
            key,
            stamp_ns,
            _packed(vector),
            unfamiliar,
        )

    def put_segment(self, key: StreamKey, segment: StoredSegment) -> None:
        """Write a segment; if its name exists in the stream, update all but the stored text."""
        self._write(
            'INSERT INTO segments '
            '(stream, session, number, start_ns, end_ns, vector, unfamiliar) '
            'VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET '
            'start_ns = excluded.start_ns, end_ns = excluded.end_ns, vector = excluded.vector, '
            'unfamiliar = excluded.unfamiliar',
            key,
            *segment.name,
            segment.start_ns,
            segment.end_ns,
            _packed(segment.vector),
            segment.unfamiliar,
        )

    def put_text(self, key: StreamKey, name: SegmentName, text: str, nearest: bool) -> None:
        """Write the text of an existing segment.

        Args:
            key: Stream of the segment.
            name: Session id and segment id.
            text: Text of the segment.
            nearest: Whether the text is a retrieved sentence of a sentence bank.
        """
        self._write(
            'UPDATE segments SET text = ?4, nearest = ?5 '
            'WHERE stream = ?1 AND session = ?2 AND number = ?3',
            key,
            *name,
            text,
            nearest,
        )

    def delete_hops(self, key: StreamKey, start_ns: int, end_ns: int) -> None:
        """Delete the embeddings of a stream with start_ns <= stamp < end_ns."""
        self._write(
            'DELETE FROM hops WHERE stream = ? AND stamp_ns >= ? AND stamp_ns < ?',
            key,
            start_ns,
            end_ns,
        )

    def delete_segment(self, key: StreamKey, name: SegmentName) -> None:
        """Delete one segment of a stream."""
        self._write(
            'DELETE FROM segments WHERE stream = ? AND session = ? AND number = ?', key, *name
        )

    def delete_of_other_models(
        self, model_id: str, source: str, hops_ns: int, segments_ns: int
    ) -> None:
        """Delete old embeddings and segments of one camera that are from other models.

        Args:
            model_id: The model whose data is not deleted.
            source: Name of the camera.
            hops_ns: Hops with older stamps are deleted.
            segments_ns: Segments with older ends are deleted.
        """
        others = 'stream IN (SELECT id FROM streams WHERE model_id != ? AND source = ?)'
        for table, column, oldest_ns in (
            ('hops', 'stamp_ns', hops_ns),
            ('segments', 'end_ns', segments_ns),
        ):
            self._base.write(
                f'DELETE FROM {table} WHERE {others} AND {column} < ?',
                model_id,
                source,
                oldest_ns,
            )

    def delete_stream(self, key: StreamKey) -> None:
        """Delete all embeddings and segments of one stream."""
        for table in ('hops', 'segments'):
            self._write(f'DELETE FROM {table} WHERE stream = ?', key)

    def commit(self) -> None:
        """Commit all writes since the last commit."""
        self._base.commit()

    def shrink(self) -> None:
        """Commit, and return disk space of deleted data to the file system."""
        self._base.shrink()

    def limit_log(self, size: int) -> None:
        """Limit the size of the write-ahead log to about `size` bytes."""
        self._base.limit_log(size)

    # Reading.

    @property
    def file_bytes(self) -> int:
        """Size of the file and its write-ahead log in bytes."""
        return self._base.file_bytes

    @property
    def written_ns(self) -> int:
        """Wall-clock time of the last write before the file was opened; 0 for a new file."""
        return self._base.written_ns

    def streams(self) -> list[StreamKey]:
        """Return the keys of all streams that were ever stored, in order of creation."""
        rows = self._base.read('SELECT source, prompt, model_id FROM streams ORDER BY id')
        return [StreamKey(*row) for row in rows]

    def size(self, key: StreamKey) -> tuple[int, int, int]:
        """Return the number of embeddings, the number of segments, and D of one stream."""
        rows = [
            self._base.read(
                f'SELECT count(*), max(length(vector)) FROM {table} WHERE stream = ?',
                self._id(key),
            )[0]
            for table in ('hops', 'segments')
        ]
        return rows[0][0], rows[1][0], max(length or 0 for _, length in rows) // 2

    def hops(self, key: StreamKey) -> StoredEmbeddings:
        """Return all embeddings of one stream."""
        rows = self._base.read(
            f'SELECT stamp_ns, vector, {self._unfamiliar} FROM hops '
            'WHERE stream = ? ORDER BY stamp_ns',
            self._id(key),
        )
        if not rows:
            return StoredEmbeddings(
                np.zeros(0, np.int64), np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
            )
        stamps, blobs, unfamiliar = zip(*rows, strict=True)
        vectors = np.frombuffer(b''.join(blobs), np.float16)
        return StoredEmbeddings(
            np.array(stamps, np.int64),
            vectors.reshape(len(rows), -1).astype(np.float32),
            np.array(unfamiliar, np.float32),
        )

    def segments(self, key: StreamKey) -> list[StoredSegment]:
        """Return all segments of one stream, sorted by their ends."""
        rows = self._base.read(
            'SELECT session, number, start_ns, end_ns, vector, text, nearest, '
            f'{self._unfamiliar} FROM segments WHERE stream = ? ORDER BY end_ns, start_ns',
            self._id(key),
        )
        return [
            StoredSegment(
                (session, number), start, end, _unpacked(blob), text, bool(nearest), unfamiliar
            )
            for session, number, start, end, blob, text, nearest, unfamiliar in rows
        ]

    def close(self) -> None:
        """Commit if possible, close the file and release its lock."""
        self._base.close()

    def _id(self, key: StreamKey) -> int:
        names = (key.source, key.prompt, key.model_id)
        if key not in self._ids:
            found = self._base.read(
                'SELECT id FROM streams WHERE source = ? AND prompt = ? AND model_id = ?', *names
            )
            if not found:
                return -1
            self._ids[key] = int(found[0][0])
        return self._ids[key]

    def _write(self, statement: str, key: StreamKey, *values: Any) -> None:
        if self._id(key) < 0:
            names = (key.source, key.prompt, key.model_id)
            insert = 'INSERT INTO streams (id, source, prompt, model_id) VALUES (?, ?, ?, ?)'
            self._base.write(insert, self._next_id, *names)
            self._ids[key], self._next_id = self._next_id, self._next_id + 1
        self._base.write(statement, self._id(key), *values)


def _packed(vector: Vector) -> bytes:
    return np.asarray(vector, '<f2').tobytes()


def _unpacked(blob: bytes) -> Vector:
    return np.frombuffer(blob, '<f2').astype(np.float32)
