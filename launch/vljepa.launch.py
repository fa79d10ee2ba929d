# SPDX-License-Identifier: Apache-2.0
"""Launch the stack in four processes, or in one process with composed:=true."""

import os
import time
from functools import partial
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    PopEnvironment,
    PopLaunchConfigurations,
    PushEnvironment,
    PushLaunchConfigurations,
    RegisterEventHandler,
    SetEnvironmentVariable,
    TimerAction,
)
from launch.event_handlers import OnProcessExit, OnShutdown
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from vljepa_ros.cli.ros_environment import MALLOC, shared_memory_profile
from vljepa_ros.nodes.launch_arguments import (
    boolean,
    check_view,
    override_file,
    overrides,
    view_remappings,
)
from vljepa_ros.runtime.restart_policy import RestartPolicy

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
    'image_transport': (
        '',
        'raw, compressed, ffmpeg or foxglove, for all cameras (empty: as in params_file)',
    ),
    'device': ('', 'auto, cpu, cuda or cuda:N, for all nodes (empty: as in params_file)'),
    'threads': ('', 'CPU threads of the model in each process (empty: as in params_file)'),
    'composed': (
        'false',
        'true: one process with one copy of the weights; false: four processes',
    ),
    'view': (
        'none',
        'none; node: start view_node, too; foxglove, rviz: with foxglove_bridge or RViz',
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
    viewers = view(values['view'], values['namespace'])
    if values['view'] != 'none':
        executables = (*executables, 'view_node')
    scope = dict(context.launch_configurations), dict(context.environment)
    forget = OnShutdown(on_shutdown=lambda *_: over.unlink(missing_ok=True))

    def node(executable):
        return Node(
            package='vljepa_ros',
            executable=executable,
            namespace=values['namespace'],
            parameters=files,
            output='screen',
            emulate_tty=True,
            ros_arguments=['--log-level', values['log_level']],
        )

    started = [
        action
        for executable in executables
        for action in supervised(partial(node, executable), RestartPolicy(), scope)
    ]
    return [*started, *viewers, RegisterEventHandler(forget)]


def view(name, namespace):
    """Return the actions that start a viewer: none, node (view_node only), foxglove or rviz."""
    check_view(name)
    if name == 'foxglove':
        return [Node(package='foxglove_bridge', executable='foxglove_bridge', output='screen')]
    if name == 'rviz':
        return [
            Node(
                package='rviz2',
                executable='rviz2',
                arguments=['-d', str(SHARE / 'config' / 'vljepa.rviz')],
                remappings=view_remappings(SHARE / 'config' / 'vljepa.rviz', namespace),
                output='screen',
            )
        ]
    return []


def supervised(make, policy, scope):
    """Return the actions that run a process and restart it as `policy` says.

    The launch system itself would restart a process whatever its exit status is, without end.
    `scope`: launch configurations and environment of the group that includes this file, such as a
    pushed namespace. The group has ended when a process is restarted.
    """
    process, began_s = make(), time.monotonic()

    def on_exit(event, context):
        if context.is_shutdown:
            return []
        delay_s = policy.delay_s(event.returncode, time.monotonic() - began_s)
        status = f'exit status {event.returncode}'
        log = get_logger(event.process_name)
        if delay_s is None:
            if event.returncode:
                log.error(f'not restarted: a restart does not help ({status}); see its last lines')
            return []
        log.warning(f'restarted in {delay_s:g} s ({status})')
        return [TimerAction(period=delay_s, actions=in_scope(again))]

    def again(context):
        context.launch_configurations.update(scope[0])
        context.environment.update(scope[1])
        return supervised(make, policy, scope)

    handler = OnProcessExit(target_action=process, on_exit=on_exit)
    return [RegisterEventHandler(handler), process]


def in_scope(function):
    """Return the actions that call a function of the launch context in a scope of its own."""
    return [
        PushLaunchConfigurations(),
        PushEnvironment(),
        OpaqueFunction(function=function),
        PopEnvironment(),
        PopLaunchConfigurations(),
    ]


def generate_launch_description():
    """Return the description for `ros2 launch`."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, *fast_memory(), OpaqueFunction(function=nodes)])
