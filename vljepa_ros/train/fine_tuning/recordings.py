# SPDX-License-Identifier: Apache-2.0
"""Recordings and what is said of them -> streams on the grid of the model that is to be tuned."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.annotation_file import AnnotationFile, Line, default_path, read_annotations
from vljepa_ros.data.format import Stream, read_stream
from vljepa_ros.data.importer import Grid, Recorder, write_all
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.sources import open_source
from vljepa_ros.train.fine_tuning.config import Recording

log = logging.getLogger(__name__)


class Importer:
    """Makes streams for one model."""

    def __init__(self, config: ModelConfig, tower: TextTower) -> None:
        self._grid = Grid(config.time.rate_hz, config.x_encoder.image_size)
        self._config, self._tower = config, tower

    def read(self, recordings: Sequence[Recording], folder: Path) -> list[Stream]:
        """The streams of all recordings, written below `folder`, which is made anew.

        Raises:
            InputError: a recording cannot be read.
            AnnotationError: a line of a file cannot be used; it is named.
        """
        files = [self._annotations(recording) for recording in recordings]  # all, before any work
        shutil.rmtree(folder, ignore_errors=True)
        streams = []
        for number, (recording, file) in enumerate(zip(recordings, files, strict=True)):
            own = folder / f'{number:03d}'  # two may have one name
            streams += [read_stream(own / name) for name in self._write(recording, file, own)]
        return streams

    def _annotations(self, recording: Recording) -> AnnotationFile:
        path = Path(recording.annotations or default_path(Path(recording.source)))
        file = read_annotations(path)
        self._check_lengths(file)
        return file

    def _check_lengths(self, file: AnnotationFile) -> None:
        """Whether the model can say and read every text. Raises AnnotationError."""
        read = self._config.y_encoder.max_tokens - 2  # [CLS] and [SEP]
        said = min(self._config.y_decoder.max_tokens, read)
        asked = self._config.predictor.max_prompt_tokens - 2
        for line in file.said:
            self._check_length(file, line, 'text', line.text, said)
        for question in file.asked:
            self._check_length(file, question, 'prompt', question.prompt, asked)
            self._check_length(file, question, 'answer', question.answer, said)
            for text in question.candidates:
                self._check_length(file, question, 'candidate', text, read)

    def _check_length(
        self, file: AnnotationFile, line: Line, what: str, text: str, limit: int
    ) -> None:
        count = len(self._tower.tokenizer.encode(text, add_special_tokens=False).ids)
        if count > limit:
            file.fail(line, f'{what} of {count} tokens is too long (at most {limit})')

    def _write(self, recording: Recording, file: AnnotationFile, folder: Path) -> list[str]:
        """Names of the streams of one recording."""
        source = open_source(recording.source, recording.topics, recording.fps)
        recorder = Recorder(source, self._grid)
        odd = 0
        for item in source.items():
            odd += bool(recorder.push(item))
        if odd:
            log.warning('%s: %d pictures or stamps are odd', source.name, odd)
        return write_all(folder, recorder.streams(file))


def long_enough(streams: Sequence[Stream], frames: int) -> list[Stream]:
    """Those that a clip fits into. Raises InputError where none is left."""
    for stream in streams:
        if stream.frame_count < frames:
            log.warning('skipped %s: shorter than a clip (%d frames)', stream.name, frames)
    kept = [stream for stream in streams if stream.frame_count >= frames]
    if not kept:
        raise InputError(
            f'no recording is {frames} frames long, as a clip is: lower clips.tubelets'
        )
    return kept
