# SPDX-License-Identifier: Apache-2.0
"""RTSP camera: GStreamer's RTSP server, in a process of Debian's Python.

Run as a script, it serves the test and reads commands from the standard input: `color NAME`,
`size WIDTH HEIGHT`, `keys on|off` (off: key frames are removed from the stream).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SYSTEM_PYTHON = '/usr/bin/python3'
NEEDS = (
    'needs the Debian packages python3-gi, gir1.2-gst-rtsp-server-1.0, '
    'gstreamer1.0-plugins-ugly and -bad'
)
PATTERNS = {'black': 2, 'white': 3, 'red': 4, 'green': 5, 'blue': 6}  # of videotestsrc
ENCODERS = {
    'h264': 'x264enc name=encoder tune=zerolatency key-int-max={keys} ! video/x-h264,'
    'stream-format=byte-stream ! rtph264pay config-interval=-1',
    'h265': 'x265enc name=encoder tune=zerolatency key-int-max={keys} ! video/x-h265,'
    'stream-format=byte-stream ! rtph265pay config-interval=-1',
    'jpeg': 'jpegenc name=encoder ! rtpjpegpay',
}


class RtspCamera:
    """Running server. `url`: its address."""

    def __init__(self, codec: str = 'h264', keys: int = 10, port: int = 0) -> None:
        """Start the server.

        Args:
            codec: 'h264', 'h265' or 'jpeg'.
            keys: Number of images from one key frame to the next.
            port: TCP port; 0 for any.
        """
        arguments = [codec, f'--keys={keys}', f'--port={port}']
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, __file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=_environment(),
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith('port '), f'the RTSP server did not start: {line!r}'
        self.port = int(line.split()[1])
        self.url = f'rtsp://127.0.0.1:{self.port}/test'

    def tell(self, command: str) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + '\n')
        self._process.stdin.flush()

    def freeze(self) -> None:
        """Stop sending, with all connections open."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue after `freeze`."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop the server at once."""
        self._process.kill()
        self._process.wait()


def _environment() -> dict[str, str]:
    """Return the environment without the variables of this Python."""
    return {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}


def is_available() -> bool:
    """Return whether GStreamer's RTSP server and its encoders are installed."""
    if not Path(SYSTEM_PYTHON).exists():
        return False
    code = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')\n"
        'from gi.repository import Gst, GstRtspServer; Gst.init(None)\n'
        "assert all(map(Gst.ElementFactory.find, ('x264enc', 'x265enc', 'jpegenc')))"
    )
    done = subprocess.run([SYSTEM_PYTHON, '-c', code], capture_output=True, env=_environment())
    return done.returncode == 0


@contextmanager
def rtsp_camera(codec: str = 'h264', keys: int = 10, port: int = 0) -> Iterator[RtspCamera]:
    """Run a server until the end of the block."""
    camera = RtspCamera(codec, keys, port)
    try:
        yield camera
    finally:
        camera.go_on()
        camera.stop()


def serve(codec: str, keys: int, port: int) -> None:
    """Serve until the standard input is closed."""
    import gi  # type: ignore[import-not-found]

    gi.require_version('Gst', '1.0')
    gi.require_version('GstRtspServer', '1.0')
    from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]

    Gst.init(None)
    server = GstRtspServer.RTSPServer(address='127.0.0.1', service=str(port))
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    encoder = ENCODERS[codec].format(keys=keys)
    factory.set_launch(
        '( videotestsrc name=lens is-live=true pattern=red ! capsfilter name=size '
        f'caps=video/x-raw,format=I420,width=64,height=48,framerate=20/1 ! {encoder} name=pay0 )'
    )
    state = {'keys': True}
    elements = {}

    def on_packet(_pad, info):  # type: ignore[no-untyped-def]
        is_key = not info.get_buffer().has_flags(Gst.BufferFlags.DELTA_UNIT)
        return Gst.PadProbeReturn.DROP if is_key and not state['keys'] else Gst.PadProbeReturn.OK

    def on_media(_factory, media):  # type: ignore[no-untyped-def]
        bin_ = media.get_element()
        for name in ('lens', 'size', 'encoder'):
            elements[name] = bin_.get_by_name(name)
        pad = elements['encoder'].get_static_pad('src')
        pad.add_probe(Gst.PadProbeType.BUFFER, on_packet)

    def on_command(line: str) -> None:
        name, *values = line.split()
        if name == 'color':
            elements['lens'].set_property('pattern', PATTERNS[values[0]])
        elif name == 'size':
            width, height = values
            caps = f'video/x-raw,format=I420,width={width},height={height},framerate=20/1'
            elements['size'].set_property('caps', Gst.Caps.from_string(caps))
        elif name == 'keys':
            state['keys'] = values[0] == 'on'

    def read_commands() -> None:
        for line in sys.stdin:
            GLib.idle_add(on_command, line)
        os._exit(0)

    factory.connect('media-configure', on_media)
    server.get_mount_points().add_factory('/test', factory)
    server.attach(None)
    threading.Thread(target=read_commands, daemon=True).start()
    print('port', server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('codec', choices=ENCODERS)
    parser.add_argument('--keys', type=int, required=True)
    parser.add_argument('--port', type=int, required=True)
    given = parser.parse_args()
    serve(given.codec, given.keys, given.port)
