# SPDX-License-Identifier: Apache-2.0
"""Conversions between ROS messages and the types of `vljepa_ros.core.types`."""

from __future__ import annotations

import array
import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vljepa_ros import msg
from vljepa_ros.core import images, types
from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.video_packets import VideoPacket, video_packet
from vljepa_ros.query.question import Question
from vljepa_ros.srv import Query
from vljepa_ros.stream.perceiver import WindowPrediction

SECOND_NS = 1_000_000_000


def to_ns(stamp: Time | Duration) -> int:
    """Convert a ROS time or duration to nanoseconds."""
    return int(stamp.sec) * SECOND_NS + int(stamp.nanosec)


def to_time(stamp_ns: int) -> Time:
    """Convert nanoseconds to a ROS time."""
    return Time(sec=stamp_ns // SECOND_NS, nanosec=stamp_ns % SECOND_NS)


def to_duration(duration_ns: int) -> Duration:
    """Convert nanoseconds to a ROS duration."""
    return Duration(sec=duration_ns // SECOND_NS, nanosec=duration_ns % SECOND_NS)


def to_header(stamp_ns: int, frame_id: str) -> Header:
    """Create a message header from a stamp in nanoseconds and a frame id."""
    return Header(stamp=to_time(stamp_ns), frame_id=frame_id)


def to_floats(vector: NDArray[np.float32] | None) -> array.array[float]:
    """Convert a vector to a float32[] message field; None becomes an empty field.

    The array is copied as one buffer, because rclpy checks an ndarray element by element.
    """
    floats = array.array('f')
    if vector is not None:
        floats.frombytes(np.ascontiguousarray(vector, np.float32).tobytes())
    return floats


def from_floats(floats: Sequence[float]) -> types.Vector:
    """Convert a float32[] message field to a vector.

    Raises:
        InputError: The field is empty or has non-finite values.
    """
    vector = np.array(floats, np.float32)
    if vector.size == 0 or not np.isfinite(vector).all():
        raise InputError(f'embedding of {vector.size} values is empty or not finite')
    return vector


def image_type(transport: str) -> Any:
    """Return the message class of an image transport, a key of `images.TRANSPORTS`.

    Raises:
        InputError: The package of the message, or the video decoder, is not installed.
    """
    package, _, name = images.TRANSPORTS[transport].split('/')
    try:
        found = getattr(importlib.import_module(f'{package}.msg'), name)
        if images.TRANSPORTS[transport] in images.VIDEO:
            importlib.import_module('av')
    except ImportError as error:
        apt = (
            f"the ROS package {package}: apt install 'ros-$ROS_DISTRO-{package.replace('_', '-')}'"
        )
        needed = 'the Python package av: pip install av' if error.name == 'av' else apt
        raise InputError(f"image transport '{transport}' needs {needed}") from error
    return found


def header_of(message: Any) -> Header:
    """Return the header of an image message; CompressedVideo has its fields without a header."""
    if hasattr(message, 'header'):
        return message.header
    return Header(stamp=message.timestamp, frame_id=message.frame_id)


def check_image_message(message: Image | CompressedImage) -> None:
    """Check an image message without decoding it. Raises InputError if it is damaged."""
    if isinstance(message, CompressedImage):
        images.check_compressed(message.format, message.data)
    else:
        images.check_raw(
            message.encoding, message.width, message.height, message.step, len(message.data)
        )


def to_image(message: Image | CompressedImage) -> types.Image:
    """Decode an image message to RGB, (H, W, 3). Raises InputError if it is damaged."""
    if isinstance(message, CompressedImage):
        return images.decode_compressed(message.format, message.data)
    return images.decode_raw(
        message.encoding,
        message.width,
        message.height,
        message.step,
        bool(message.is_bigendian),
        message.data,
    )


def to_video_packet(message: Any) -> VideoPacket:
    """Convert a FFMPEGPacket or CompressedVideo message. Raises InputError if it is damaged."""
    format = message.format if hasattr(message, 'format') else message.encoding
    return video_packet(to_ns(header_of(message).stamp), format, message.data)


def to_embedding_message(
    embedding: types.Embedding, frame_id: str, latency_ns: int
) -> msg.SemanticEmbedding:
    """Convert an embedding to a SemanticEmbedding message.

    Args:
        embedding: Embedding of one hop and prompt.
        frame_id: Frame id of the camera, for the header.
        latency_ns: Time from the arrival of the frame to this message.
    """
    return msg.SemanticEmbedding(
        header=to_header(embedding.stamp_ns, frame_id),
        window_start=to_time(embedding.window_start_ns),
        reset_count=embedding.reset_count,
        source=embedding.key.source,
        prompt=embedding.key.prompt,
        model_id=embedding.key.model_id,
        vector=to_floats(embedding.vector),
        unfamiliar=embedding.unfamiliar,
        latency=to_duration(latency_ns),
    )


def from_embedding_message(message: msg.SemanticEmbedding) -> types.Embedding:
    """Convert a SemanticEmbedding message. Raises InputError if a value is invalid."""
    return types.Embedding(
        to_ns(message.header.stamp),
        to_ns(message.window_start),
        _key(message),
        from_floats(message.vector),
        message.reset_count,
        _fraction(message.unfamiliar, 'unfamiliar'),
    )


def to_change_message(change: types.Change, frame_id: str) -> msg.SemanticChange:
    """Convert a change to a SemanticChange message with the camera's `frame_id` in its header."""
    before = change.previous or types.Segment(0, 0, 0)
    return msg.SemanticChange(
        header=to_header(change.stamp_ns, frame_id),
        source=change.key.source,
        prompt=change.key.prompt,
        model_id=change.key.model_id,
        session_id=change.session_id,
        segment_id=change.segment_id,
        segment_start=to_time(change.segment_start_ns),
        has_previous=change.previous is not None,
        previous_segment_id=before.segment_id,
        previous_start=to_time(before.start_ns),
        previous_end=to_time(before.end_ns),
        score=float(change.score),
        reason=int(change.reason),
        vector=to_floats(change.vector),
        previous_vector=to_floats(change.previous_vector),
        unfamiliar=change.unfamiliar,
        previous_unfamiliar=change.previous_unfamiliar,
    )


def from_change_message(message: msg.SemanticChange) -> types.Change:
    """Convert a SemanticChange message. Raises InputError if a value is invalid."""
    try:
        reason = types.Reason(message.reason)
    except ValueError as error:
        raise InputError(f'unknown SemanticChange.reason {message.reason}') from error
    previous = None
    if message.has_previous:
        previous = types.Segment(
            message.previous_segment_id, to_ns(message.previous_start), to_ns(message.previous_end)
        )
    return types.Change(
        to_ns(message.header.stamp),
        _key(message),
        message.session_id,
        message.segment_id,
        to_ns(message.segment_start),
        message.score,
        reason,
        from_floats(message.vector),
        previous,
        from_floats(message.previous_vector) if message.previous_vector else None,
        _fraction(message.unfamiliar, 'unfamiliar'),
        _fraction(message.previous_unfamiliar, 'previous_unfamiliar'),
    )


def to_event_message(event: types.Event, frame_id: str) -> msg.TextEvent:
    """Convert an event to a TextEvent message with the camera's `frame_id` in its header."""
    return msg.TextEvent(
        header=to_header(event.stamp_ns, frame_id),
        source=event.key.source,
        prompt=event.key.prompt,
        model_id=event.key.model_id,
        session_id=event.session_id,
        segment_id=event.segment_id,
        start=to_time(event.start_ns),
        end=to_time(event.end_ns),
        state=int(event.state),
        text=event.text,
        confidence=float(event.confidence),
        alternatives=to_candidates(event.alternatives),
        nearest=event.nearest,
        unfamiliar=event.unfamiliar,
        abstained=event.abstained,
        abstain_reason=int(event.abstain_reason),
    )


def from_event_message(message: msg.TextEvent) -> types.Event:
    """Convert a TextEvent message. Raises InputError if a value is invalid."""
    try:
        state = types.State(message.state)
    except ValueError as error:
        raise InputError(f'unknown TextEvent.state {message.state}') from error
    return types.Event(
        to_ns(message.header.stamp),
        _key(message),
        message.session_id,
        message.segment_id,
        to_ns(message.start),
        to_ns(message.end),
        state,
        message.text,
        message.confidence,
        tuple(types.Candidate(c.text, c.score) for c in message.alternatives),
        message.nearest,
        _fraction(message.unfamiliar, 'unfamiliar'),
        from_abstain_reason(message.abstain_reason),
    )


def from_abstain_reason(value: int) -> types.AbstainReason:
    """Convert the field `abstain_reason` of a message. Raises InputError if it is unknown."""
    try:
        return types.AbstainReason(value)
    except ValueError as error:
        raise InputError(f'unknown abstain_reason {value}') from error


def to_candidates(candidates: Iterable[types.Candidate]) -> list[msg.Candidate]:
    """Convert texts with scores to Candidate messages."""
    return [msg.Candidate(text=c.text, score=float(c.score)) for c in candidates]


def to_moment(moment: types.Moment) -> msg.Moment:
    """Convert a moment to a Moment message."""
    return msg.Moment(
        source=moment.source,
        start=to_time(moment.start_ns),
        end=to_time(moment.end_ns),
        score=float(moment.score),
        text=moment.text,
    )


def from_moment(message: msg.Moment) -> types.Moment:
    """Convert a Moment message to a moment."""
    return types.Moment(
        message.source, to_ns(message.start), to_ns(message.end), message.score, message.text
    )


def to_look(window: WindowPrediction) -> msg.Look:
    """Convert the predicted embeddings of one window to a Look message."""
    return msg.Look(
        start=to_time(window.start_ns),
        end=to_time(window.end_ns),
        vectors=to_embeddings(window.vectors),
        unfamiliar=window.unfamiliar,
    )


def from_look(message: msg.Look) -> types.EvaluatedSpan:
    """Convert a Look message that has the vector of one prompt.

    Raises:
        InputError: The message has no vector or several vectors, or a value is invalid.
    """
    if len(message.vectors) != 1:
        raise InputError(f'Look.vectors has {len(message.vectors)} vectors, but must have 1')
    vector = from_embedding(message.vectors[0])
    unfamiliar = _fraction(message.unfamiliar, 'unfamiliar')
    return types.EvaluatedSpan(
        to_ns(message.start), to_ns(message.end), vector, unfamiliar=unfamiliar
    )


def to_embeddings(vectors: NDArray[np.float32]) -> list[msg.Embedding]:
    """Convert an array of vectors (P, D) to P Embedding messages."""
    return [msg.Embedding(data=to_floats(vector)) for vector in vectors]


def from_embedding(message: msg.Embedding) -> types.Vector:
    """Convert an Embedding message to a vector. Raises InputError if it is invalid."""
    return from_floats(message.data)


def to_model_info(
    facts: ModelFacts, prompts: Iterable[str], sources: Iterable[str], rate_hz: float
) -> msg.ModelInfo:
    """Create a ModelInfo message.

    Args:
        facts: Constants of the model.
        prompts: Standing prompts.
        sources: Names of the cameras.
        rate_hz: Sampling rate in use, which determines all durations of the message.
    """
    hop_ns = round(facts.tubelet_frames * SECOND_NS / rate_hz)
    return msg.ModelInfo(
        model_id=facts.model_id,
        embedding_dim=facts.embedding_dim,
        rate=rate_hz,
        hop=to_duration(hop_ns),
        attention_window=to_duration(facts.window_tubelets * hop_ns),
        receptive_field=to_duration(facts.receptive_tubelets * hop_ns),
        prompts=list(prompts),
        sources=list(sources),
        device=facts.device,
        dtype=facts.dtype,
    )


def streams_of(message: msg.ModelInfo) -> frozenset[types.StreamKey]:
    """Return the streams that a ModelInfo message names: each camera with each standing prompt."""
    return frozenset(
        types.StreamKey(source, prompt, message.model_id)
        for source in message.sources
        for prompt in message.prompts
    )


def to_query(question: Question) -> Query.Request:
    """Convert a question to a Query request."""
    return Query.Request(
        prompt=question.prompt,
        candidates=list(question.candidates),
        source=question.source,
        start=to_time(question.start_ns),
        end=to_time(question.end_ns),
    )


def from_query(request: Any) -> Question:
    """Convert a Query request to a question."""
    return Question(
        request.prompt,
        tuple(request.candidates),
        request.source,
        to_ns(request.start),
        to_ns(request.end),
    )


def fill_answer(response: Any, answer: types.Answer) -> None:
    """Set the fields of a Query response from an answer."""
    response.message = answer.message
    response.answer, response.confidence = answer.answer, float(answer.confidence)
    response.abstained, response.abstain_reason = answer.abstained, int(answer.abstain_reason)
    response.unfamiliar, response.nearest = float(answer.unfamiliar), answer.nearest
    response.ranked = to_candidates(answer.ranked)
    response.evidence = [to_moment(m) for m in answer.evidence]
    response.basis = int(answer.basis)
    response.vector = to_floats(answer.vector)
    response.model_id = answer.model_id
    response.stamp = to_time(answer.stamp_ns)


def from_answer(response: Any) -> types.Answer:
    """Convert a Query response to an answer: the inverse of `fill_answer`."""
    return types.Answer(
        answer=response.answer,
        confidence=response.confidence,
        abstained=response.abstained,
        stamp_ns=to_ns(response.stamp),
        model_id=response.model_id,
        vector=from_floats(response.vector),
        ranked=tuple(types.Candidate(c.text, c.score) for c in response.ranked),
        evidence=tuple(from_moment(moment) for moment in response.evidence),
        basis=types.Basis(response.basis),
        nearest=response.nearest,
        abstain_reason=from_abstain_reason(response.abstain_reason),
        unfamiliar=response.unfamiliar,
        message=response.message,
    )


def check_supported(request: Any) -> None:
    """Raise InputError if a Query, Search or Watch request uses a reserved field."""
    if request.source == '*':
        raise InputError("source '*' is not supported yet: name a camera, or leave it empty")
    if getattr(request, 'radius', 0.0) != 0.0:
        raise InputError(f'radius ({request.radius:g} m) is not supported yet: set it to 0')
    if hasattr(request, 'like') and request.like != msg.Moment():
        raise InputError("field 'like' is not supported yet: use a text")
    if hasattr(request, 'image') and (request.image.data or request.image.format):
        raise InputError("field 'image' is not supported yet: use a text")


def _fraction(value: float, name: str) -> float:
    """Return the value of a field called `name`. Raises InputError if it is not in 0..1."""
    if not 0.0 <= value <= 1.0:
        raise InputError(f'{name} ({value:g}) is not in 0..1')
    return float(value)


def _key(message: Any) -> types.StreamKey:
    return types.StreamKey(message.source, message.prompt, message.model_id)
