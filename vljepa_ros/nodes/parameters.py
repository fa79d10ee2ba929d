# SPDX-License-Identifier: Apache-2.0
"""Declarations of all node parameters, and their conversion to the settings of the core.

A `runtime` parameter can be changed at any time and a `read_only` parameter never. All other
parameters can be changed while the node is unconfigured. At configure, an invalid value is
reported in one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import TRANSPORTS, WHOLE
from vljepa_ros.core.settings import (
    HIGHEST_THRESHOLD,
    LONGEST_RUN,
    AnswerSettings,
    FrameStoreSettings,
    MemorySettings,
    PerceptionSettings,
    SegmenterSettings,
)
from vljepa_ros.runtime.model_pool import ModelSpec

DEFAULT_CAMERA = 'camera'
QOS_OVERRIDES = 'qos_overrides.'
ROS_OWN = ('use_sim_time', 'start_type_description_service')
Value = bool | int | float | str | list[str] | list[float]


@dataclass(frozen=True)
class Spec:
    """Declaration of one node parameter; the parameter has the type of its default.

    `low`, `high`: inclusive range. `choices`: allowed values; empty if there is no restriction.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()
    read_only: bool = False
    runtime: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Return the ROS descriptor of the parameter, which `ros2 param describe` prints."""
        found = ParameterDescriptor(
            name=self.name,
            description=self.description,
            read_only=self.read_only,
            additional_constraints=_one_of(self.choices),
        )
        if self.low is not None and self.high is not None:
            if isinstance(self.default, int):
                found.integer_range = [
                    IntegerRange(from_value=int(self.low), to_value=int(self.high), step=1)
                ]
            else:
                found.floating_point_range = [
                    FloatingPointRange(from_value=self.low, to_value=self.high)
                ]
        return found

    def range_text(self) -> str:
        """Return the range for people, such as '0 to 1,024'; '' if the parameter has none."""
        return '' if self.low is None else f'{self.low:,.12g} to {self.high:,.12g}'


_EVENTS = SegmenterSettings()
_SIGHT = PerceptionSettings()

COMMON = (
    Spec(
        'autostart',
        True,
        'Configure and activate the node after start; false: a lifecycle manager does this',
        read_only=True,
    ),
)
MODEL = (
    Spec('model', 'small', 'Name of an installed model, or a folder with model.yaml'),
    Spec(
        'device',
        'auto',
        'Device of the model: auto, cpu, cuda or cuda:N; cpu by default in separate processes '
        'of decoder_node and query_node',
    ),
    Spec(
        'dtype',
        'float32',
        'Compute dtype of the model',
        choices=('float32', 'bfloat16', 'float16'),
    ),
    Spec(
        'threads',
        0,
        'CPU threads of the model, for the whole process (0: 1 thread for small models, otherwise '
        "torch's default)",
        0,
        1024,
    ),
)
SERVICES = (
    Spec(
        'service_depth',
        256,
        'QoS depth of the services: number of requests that the middleware queues',
        1,
        10_000,
        read_only=True,
    ),
    Spec(
        'max_waiting',
        256,
        'Maximum number of pending requests; further requests get the error BUSY',
        1,
        10_000,
    ),
)
CAMERAS = (
    Spec(
        'cameras',
        [DEFAULT_CAMERA],
        'Names of the cameras; each has the parameters <name>.topic, .transport, .rotate, .crop',
    ),
    Spec(
        'image_transport',
        '',
        'Image transport of all cameras (empty: the transport of each camera)',
        choices=('', *TRANSPORTS),
    ),
)
PERCEPTION = (
    *COMMON,
    *MODEL,
    *SERVICES,
    *CAMERAS,
    Spec(
        'prompts',
        list(_SIGHT.prompts),
        'Standing prompts: each is answered with one embedding on every hop (inference step)',
        runtime=True,
    ),
    Spec(
        'rate',
        _SIGHT.rate,
        'Sampling rate in Hz (0: the rate the model was trained at)',
        0.0,
        1000.0,
    ),
    Spec(
        'max_gap',
        _SIGHT.max_gap_s,
        'Maximum gap between stamps of received frames, in s; a longer gap resets the camera',
        0.01,
        3600.0,
    ),
    Spec(
        'frames_kept',
        FrameStoreSettings().kept_s,
        'How long frames are stored for new questions about the past, in s',
        1.0,
        1e9,
    ),
    Spec(
        'frames_bytes',
        FrameStoreSettings().most_bytes,
        'Size limit of stored frames, in bytes; the last attention window of each segment is '
        'removed last',
        100_000,
        10**15,
    ),
    Spec(
        'frames_path',
        '',
        'File of the frame store, which survives restarts (empty: RAM only)',
    ),
)
CAMERA = (
    Spec(
        'topic',
        'image',
        'Image topic; the suffix of image_transport (/compressed, /ffmpeg, /foxglove) may be '
        'omitted. Cameras with the same topic and transport share one subscription',
    ),
    Spec('transport', 'raw', 'Image transport', choices=tuple(TRANSPORTS)),
    Spec('rotate', 0, 'Clockwise rotation of the images, in degrees', choices=(0, 90, 180, 270)),
    Spec(
        'crop',
        list(WHOLE),
        'Region of the rotated image to use: x, y, width and height as fractions of its size '
        '(width and height at least 0.05); a change resets the stream of the camera',
        runtime=True,
    ),
)
CHANGE_DETECTION = (
    *COMMON,
    Spec(
        'change_threshold',
        _EVENTS.change_threshold,
        'Minimum Ward merge cost that starts a new segment (upper bound: 2 x cosine distance x '
        'run length)',
        0.0,
        HIGHEST_THRESHOLD,
    ),
    Spec(
        'confirm_hops',
        _EVENTS.confirm_hops,
        'Minimum number of consecutive embeddings that confirm a change',
        1,
        LONGEST_RUN,
    ),
    Spec('min_segment', _EVENTS.min_segment_s, 'Minimum duration of a segment, in s', 0.0, 3600.0),
    Spec(
        'drift_threshold',
        _EVENTS.drift_threshold,
        'Cosine distance from the last decoded vector at which a segment is decoded again',
        0.0,
        2.0,
    ),
    Spec(
        'events_per_minute',
        _EVENTS.events_per_minute,
        'Long-term limit of texts per minute and stream, which a burst may exceed by about ten '
        'texts (0: no limit)',
        0.0,
        6000.0,
    ),
)
DECODER = (*COMMON, *MODEL)
VIEW = (
    *COMMON,
    *CAMERAS,
    Spec(
        'jpeg_quality',
        85,
        'JPEG quality of the compressed overlay images',
        1,
        100,
        runtime=True,
    ),
)
QUERY = (
    *COMMON,
    *MODEL,
    *SERVICES,
    Spec(
        'predict_timeout',
        5.0,
        'Timeout of calls to the service `predict`, in s of the steady clock',
        0.01,
        600.0,
    ),
    Spec(
        'abstain_below',
        AnswerSettings().abstain_below,
        'Confidence threshold: answers with a lower confidence are abstentions',
        0.0,
        1.0,
    ),
    Spec(
        'memory_path',
        '',
        'File of the memory, which survives restarts (empty: RAM only)',
    ),
    Spec(
        'memory_kept',
        MemorySettings().kept_s,
        'How long segments and their texts are stored, in s',
        1.0,
        1e9,
    ),
    Spec(
        'memory_hops_kept',
        MemorySettings().hops_kept_s,
        'How long every embedding is stored, in s',
        1.0,
        1e9,
    ),
    Spec(
        'memory_bytes',
        MemorySettings().most_bytes,
        'Size limit of the memory, in bytes; the oldest data is removed first',
        100_000,
        10**15,
    ),
    Spec(
        'watch_threshold',
        0.5,
        'Score threshold of Watch goals that do not set a threshold',
        0.001,
        1.0,
    ),
    Spec(
        'watch_hops',
        4,
        'Number of consecutive embeddings that must meet a condition before a Watch fires',
        1,
        1000,
    ),
)
TABLE: dict[str, tuple[Spec, ...]] = {
    'perception_node': PERCEPTION,
    'change_detection_node': CHANGE_DETECTION,
    'decoder_node': DECODER,
    'query_node': QUERY,
    'view_node': VIEW,
}


def camera_specs(name: str) -> tuple[Spec, ...]:
    """Return the declarations of the parameters of one camera, such as `<name>.topic`."""
    return tuple(
        Spec(
            f'{name}.{s.name}',
            s.default,
            f'Camera {name}: {s.description}',
            s.low,
            s.high,
            s.choices,
            s.read_only,
            s.runtime,
        )
        for s in CAMERA
    )


def for_separate_text_side(specs: Iterable[Spec]) -> tuple[Spec, ...]:
    """Set the default of `device` to 'cpu' for a text side that has its own process.

    The GPU is thus left to the vision side.
    """
    return tuple(replace(s, default='cpu') if s.name == 'device' else s for s in specs)


def declare(node: Node, specs: Iterable[Spec]) -> dict[str, str]:
    """Declare the parameters that are not declared yet on a node.

    Returns:
        Error messages by parameter name; a parameter with an invalid override has its default.
    """
    problems: dict[str, str] = {}
    given = getattr(node, '_parameter_overrides', {})
    for spec in specs:
        if node.has_parameter(spec.name):
            continue
        # rcl cannot infer the type of an empty list in a YAML file.
        empty = spec.name in given and given[spec.name].type_ == Parameter.Type.NOT_SET
        try:
            if empty and not _is_text_list(spec.default):
                raise InvalidParameterValueException(spec.name, '[]', 'it must not be a list')
            node.declare_parameter(
                spec.name, spec.default, spec.descriptor(), ignore_override=empty
            )
            if empty:
                node.set_parameters([Parameter(spec.name, Parameter.Type.STRING_ARRAY, [])])
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            problems[spec.name] = _one_line(error)
            node.declare_parameter(
                spec.name, spec.default, spec.descriptor(), ignore_override=True
            )
        except ParameterException as error:
            problems[spec.name] = _one_line(error)
    return problems


def _is_text_list(value: Value) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def check(specs: Iterable[Spec], values: Mapping[str, Any]) -> None:
    """Raise InputError if a parameter value is not one of the `choices` of its declaration."""
    for spec in specs:
        if spec.choices and spec.name in values and values[spec.name] not in spec.choices:
            raise InputError(
                f"parameter {spec.name} is '{values[spec.name]}', but must be "
                f'{_one_of(spec.choices)}'
            )


def check_cameras(names: list[str]) -> tuple[str, ...]:
    """Return the camera names. Raises InputError for no name, or an invalid or repeated name."""
    if not names:
        raise InputError('parameter cameras is empty: set at least one camera name')
    for name in names:
        if not name.isidentifier():
            raise InputError(
                f"camera name '{name}' is invalid: use letters, digits and _, "
                'not starting with a digit'
            )
        if names.count(name) > 1:
            raise InputError(f"camera name '{name}' is listed twice")
    return tuple(names)


def unknown(given: Iterable[str]) -> str:
    """Return a warning that lists overrides of parameters that no node has; '' if none."""
    names = {spec.name for specs in TABLE.values() for spec in specs} | set(ROS_OWN)
    fields = tuple(f'.{spec.name}' for spec in CAMERA)
    found = sorted(
        name
        for name in given
        if name not in names and not name.endswith(fields) and not name.startswith(QOS_OVERRIDES)
    )
    return f'unknown parameters are ignored: {", ".join(found)}' if found else ''


def unnamed_cameras(given: Iterable[str], cameras: Sequence[str]) -> str:
    """Return a warning that lists overrides for cameras not in `cameras`; '' if none."""
    known = {*cameras, DEFAULT_CAMERA}  # the parameter file always sets the default camera
    fields = {spec.name for spec in CAMERA}
    found = sorted(
        name
        for name in given
        if '.' in name
        and name.rsplit('.', 1)[1] in fields
        and not name.startswith(QOS_OVERRIDES)
        and name.rsplit('.', 1)[0] not in known
    )
    if not found:
        return ''
    names = ', '.join(cameras)
    return f'parameters for unknown cameras are ignored: {", ".join(found)} (cameras: {names})'


def values_of(node: Node, specs: Iterable[Spec]) -> dict[str, Any]:
    """Return the current values of a node's parameters as plain Python objects by name."""
    return {spec.name: plain(node.get_parameter(spec.name)) for spec in specs}


def plain(parameter: Parameter) -> Any:
    """Return the value of a parameter as a plain Python object; arrays become lists."""
    value = parameter.value
    if parameter.type_ in (Parameter.Type.STRING_ARRAY, Parameter.Type.DOUBLE_ARRAY):
        return list(value)
    return value


def model_spec(values: Mapping[str, Any]) -> ModelSpec:
    """Return the model, device, dtype and number of threads that parameter values select."""
    return ModelSpec(values['model'], values['device'], values['dtype'], values['threads'])


def perception_settings(values: Mapping[str, Any]) -> PerceptionSettings:
    """Convert parameter values of perception_node to settings of the Perceiver."""
    return PerceptionSettings(
        prompts=tuple(values['prompts']),
        rate=values['rate'],
        max_gap_s=values['max_gap'],
    )


def frame_store_settings(values: Mapping[str, Any]) -> FrameStoreSettings:
    """Convert parameter values of perception_node to settings of the frame store."""
    return FrameStoreSettings(values['frames_kept'], values['frames_bytes'])


def segmenter_settings(values: Mapping[str, Any]) -> SegmenterSettings:
    """Convert parameter values of change_detection_node to settings of the Segmenter."""
    return SegmenterSettings(
        change_threshold=values['change_threshold'],
        confirm_hops=values['confirm_hops'],
        min_segment_s=values['min_segment'],
        drift_threshold=values['drift_threshold'],
        events_per_minute=values['events_per_minute'],
    )


def answer_settings(values: Mapping[str, Any]) -> AnswerSettings:
    """Convert parameter values of query_node to settings of the Answerer."""
    return AnswerSettings(abstain_below=values['abstain_below'])


def memory_settings(values: Mapping[str, Any]) -> MemorySettings:
    """Convert parameter values of query_node to settings of the Memory."""
    return MemorySettings(
        values['memory_kept'], values['memory_hops_kept'], values['memory_bytes']
    )


def _one_of(choices: tuple[Value, ...]) -> str:
    return 'one of ' + ', '.join(str(c) or "''" for c in choices) if choices else ''


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
