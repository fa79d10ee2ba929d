# SPDX-License-Identifier: Apache-2.0
"""Launch the stack in four processes, or in one process with composed:=true."""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnShutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from vljepa_ros.cli.ros_environment import MALLOC, shared_memory_profile
from vljepa_ros.nodes.launch_arguments import boolean, override_file, overrides

SHARE = Path(get_package_share_directory('vljepa_ros'))
NODES = ('perception_node', 'change_detection_node', 'decoder_node', 'query_node')
PROFILES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
ARGUMENTS = {
    'namespace': ('vljepa', 'Namespace of the nodes; use a different one for each robot'),
    'params_file': (
        str(SHARE / 'config' / 'vljepa.yaml'),
        'Parameter file; see config/vljepa.yaml',
    ),
    'model': ('', 'Installed model, or a folder with model.yaml (empty: as in params_file)'),
    'image': (
        '',
        'Image topic, resolved in the namespace of the caller (empty: as in params_file)',
    ),
    'cameras': (
        '',
        'Several cameras: "front:=/f/image_raw,rear:=/r/image_raw" (empty: see image)',
    ),
    'image_transport': ('', 'raw or compressed, for all cameras (empty: as in params_file)'),
    'device': ('', 'auto, cpu, cuda or cuda:N, for all nodes (empty: as in params_file)'),
    'threads': ('', 'CPU threads of the model in each process (empty: as in params_file)'),
    'composed': (
        'false',
        'true: one process with one copy of the weights; false: four processes',
    ),
    'autostart': ('true', 'false: stay unconfigured, for a lifecycle manager'),
    'use_sim_time': ('false', 'Take ROS time from /clock'),
    'log_level': ('info', 'debug, info, warn, error or fatal'),
}


def fast_memory():
    """Set memory variables that the user has not set; see config/fastdds.xml for the reason."""
    values = {key: value for key, value in MALLOC.items() if key not in os.environ}
    if not any(name in os.environ for name in PROFILES):
        profile = shared_memory_profile(len(NODES) + 2, folder=SHARE / 'config')
        if profile is None:
            yield LogInfo(msg='/dev/shm is too small: sending images by UDP, which is slower')
        else:
            values |= {name: str(profile) for name in PROFILES}
    for name, value in values.items():
        yield SetEnvironmentVariable(name, value)


def nodes(context):
    """Return the nodes' processes, configured by the values of the launch arguments."""
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    caller = context.launch_configurations.get('ros_namespace', '')
    over = override_file(overrides(values, caller))
    files = [values['params_file'], str(over)]
    executables = ('stack',) if boolean('composed', values['composed']) else NODES
    processes = [
        Node(
            package='vljepa_ros',
            executable=executable,
            namespace=values['namespace'],
            parameters=files,
            output='screen',
            emulate_tty=True,
            respawn=True,
            respawn_delay=2.0,
            ros_arguments=['--log-level', values['log_level']],
        )
        for executable in executables
    ]
    forget = OnShutdown(on_shutdown=lambda *_: over.unlink(missing_ok=True))
    return [*processes, RegisterEventHandler(forget)]


def generate_launch_description():
    """Return the description for `ros2 launch`."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, *fast_memory(), OpaqueFunction(function=nodes)])
