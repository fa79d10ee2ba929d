# SPDX-License-Identifier: Apache-2.0
"""HTTP server of a camera that sends motion JPEG, and can hang, end or answer with errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from helpers import bags
from helpers.fake_models import solid_image

from vljepa_ros.core.types import Image

BOUNDARY = 'frame'
RATE_HZ = 25.0


class MjpegServer:
    """State of the server, which a test changes while clients are connected.

    `color`: content of the images. `height`: their size. `mode`: 'send', 'hang' (connected, but
    nothing is sent), 'end' (connections are closed), 'html', or an HTTP status. `sent`: number of
    images.
    """

    def __init__(self, port: int, images: Sequence[Image]) -> None:
        self.color, self.height, self.mode, self.sent, self.clients = 'red', 24, 'send', 0, 0
        self.url = f'http://127.0.0.1:{port}/stream.mjpg'
        self.closing = False
        self._images = images

    def image(self) -> bytes:
        """Return the present image as JPEG."""
        if self._images:
            return bags.jpeg(self._images[self.sent % len(self._images)]).tobytes()
        return bags.jpeg(solid_image(self.color, self.height, self.height * 4 // 3)).tobytes()


@contextmanager
def mjpeg_server(images: Sequence[Image] = (), rate_hz: float = RATE_HZ) -> Iterator[MjpegServer]:
    """Run the server on a free port.

    Args:
        images: Images to send again and again, instead of one color.
        rate_hz: Images per second.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.clients += 1
            if state.mode.isdecimal():
                self.send_error(int(state.mode))
                return
            kind = 'text/html' if state.mode == 'html' else 'multipart/x-mixed-replace'
            self.send_response(200)
            self.send_header('Content-Type', f'{kind}; boundary={BOUNDARY}')
            self.end_headers()
            if state.mode == 'html':
                self.wfile.write(b'<html><body>log in</body></html>' * 100)
                return
            while not state.closing and state.mode != 'end':
                if state.mode == 'send':
                    self.send_image()
                time.sleep(1 / rate_hz)

        def send_image(self) -> None:
            data = state.image()
            head = (
                f'--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n'
            )
            self.wfile.write(head.encode() + data + b'\r\n')
            state.sent += 1

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            return

    server = Server(('127.0.0.1', 0), Handler)
    state = MjpegServer(server.server_port, images)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.closing = True
        server.shutdown()
        server.server_close()
        thread.join()
