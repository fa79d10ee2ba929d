# SPDX-License-Identifier: Apache-2.0
"""Launch the stack and play a bag: bag:=samples/bench image:=/camera/image_raw ..."""

from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.conditions import IfCondition, UnlessCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PythonExpression

PLAYER = Path(get_package_prefix('vljepa_ros')) / 'lib' / 'vljepa_ros' / 'vljepa'
SHARE = Path(get_package_share_directory('vljepa_ros'))
OWN = {
    'bag': (None, 'The bag: a rosbag2 folder, or an .mcap or .db3 file'),
    'rate': ('1.0', 'Playback speed relative to the recording'),
    'wait': ('120.0', 'Maximum time in s to wait until perception_node subscribes to the images'),
    'loop': ('false', 'true: play the bag repeatedly'),
}
# `image` selects a single camera, so it has no default if `cameras` is given.
IMAGE = PythonExpression(["'' if '", LaunchConfiguration('cameras'), "' else '/camera/image_raw'"])
STACK = {
    'cameras': (
        '',
        'Several cameras: "front:=/f/image_raw,rear:=/r/image_raw" (empty: see image)',
    ),
    'image': (IMAGE, 'Image topic of the bag, without /compressed'),
    'image_transport': ('compressed', 'raw, compressed, ffmpeg or foxglove'),
    'use_sim_time': ('true', 'Take ROS time from /clock, which the bag player publishes'),
}


def generate_launch_description():
    """Return the description for `ros2 launch`; accepts arguments of vljepa.launch.py, too."""
    play = [
        str(PLAYER),
        'play',
        LaunchConfiguration('bag'),
        '--rate',
        LaunchConfiguration('rate'),
        '--timeout',
        LaunchConfiguration('wait'),
    ]
    loop = LaunchConfiguration('loop')
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in (OWN | STACK).items()
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'vljepa.launch.py')),
                launch_arguments={name: LaunchConfiguration(name) for name in STACK}.items(),
            ),
            ExecuteProcess(cmd=play, output='screen', condition=UnlessCondition(loop)),
            ExecuteProcess(cmd=[*play, '--loop'], output='screen', condition=IfCondition(loop)),
        ]
    )
