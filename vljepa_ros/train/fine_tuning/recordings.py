# SPDX-License-Identifier: Apache-2.0
"""Import of annotated recordings with the frame rate and image size of the starting model."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.annotation_file import AnnotationFile, Line, default_path, read_annotations
from vljepa_ros.data.format import Stream, read_stream
from vljepa_ros.data.importer import Grid, RecordingConverter, write_all
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.sources import open_source
from vljepa_ros.train.fine_tuning.config import Recording

log = logging.getLogger(__name__)


class Importer:
    """Converts annotated recordings to streams for one model."""

    def __init__(self, config: ModelConfig, tower: TextTower) -> None:
        self._grid = Grid(config.time.rate_hz, config.x_encoder.image_size)
        self._config, self._tower = config, tower

    def read(self, recordings: Sequence[Recording], folder: Path) -> list[Stream]:
        """Convert recordings to streams on disk, and return the streams.

        Args:
            recordings: Recordings with annotation files.
            folder: Folder of the streams; its previous contents are deleted.

        Raises:
            InputError: A recording cannot be read.
            AnnotationError: A line of an annotation file is invalid; the message names it.
        """
        # All files are checked before any recording is read.
        files = [self._annotations(recording) for recording in recordings]
        shutil.rmtree(folder, ignore_errors=True)
        streams = []
        for number, (recording, file) in enumerate(zip(recordings, files, strict=True)):
            own = folder / f'{number:03d}'  # names of recordings may be equal
            streams += [read_stream(own / name) for name in self._write(recording, file, own)]
        return streams

    def _annotations(self, recording: Recording) -> AnnotationFile:
        path = Path(recording.annotations or default_path(Path(recording.source)))
        file = read_annotations(path)
        self._check_lengths(file)
        return file

    def _check_lengths(self, file: AnnotationFile) -> None:
        """Raise AnnotationError if a text of the file has more tokens than the model accepts."""
        encoded = self._config.y_encoder.max_tokens - 2  # [CLS] and [SEP]
        decoded = min(self._config.y_decoder.max_tokens, encoded)
        prompt = self._config.predictor.max_prompt_tokens - 2
        for line in file.texts:
            self._check_length(file, line, 'text', line.text, decoded)
        for question in file.questions:
            self._check_length(file, question, 'prompt', question.prompt, prompt)
            self._check_length(file, question, 'answer', question.answer, decoded)
            for text in question.candidates:
                self._check_length(file, question, 'candidate', text, encoded)

    def _check_length(
        self, file: AnnotationFile, line: Line, what: str, text: str, limit: int
    ) -> None:
        count = len(self._tower.tokenizer.encode(text, add_special_tokens=False).ids)
        if count > limit:
            file.fail(line, f'the {what} of {count} tokens is too long (at most {limit})')

    def _write(self, recording: Recording, file: AnnotationFile, folder: Path) -> list[str]:
        """Convert one recording to streams in `folder` and return the names of the streams."""
        source = open_source(recording.source, recording.topics, recording.fps)
        converter = RecordingConverter(source, self._grid)
        odd = 0
        for item in source.items():
            odd += bool(converter.push(item))
        if odd:
            log.warning(
                '%s: %d images or stamps are irregular (damaged, gap or wrong order)',
                source.name,
                odd,
            )
        return write_all(folder, converter.streams(file))


def long_enough(streams: Sequence[Stream], frames: int) -> list[Stream]:
    """Return the streams with at least `frames` frames; log a warning for each shorter stream.

    Raises:
        InputError: No stream is long enough.
    """
    for stream in streams:
        if stream.frame_count < frames:
            log.warning('skipped %s: it is shorter than a clip of %d frames', stream.name, frames)
    long = [stream for stream in streams if stream.frame_count >= frames]
    if not long:
        raise InputError(
            f'no recording has the {frames} frames that a clip needs: decrease clips.tubelets, or '
            f'add a longer recording'
        )
    return long
