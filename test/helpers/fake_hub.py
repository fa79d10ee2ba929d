# SPDX-License-Identifier: Apache-2.0
"""File hub on this machine: ranges, gated repositories, redirects, lost connections."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """Hub with its files and the requests that it received.

    `files`: path below the hub -> content. `gated`: repositories that require `Bearer secret`.
    `break_after`: bytes after which the next response is cut off (0: never). `sends_length`:
    whether responses have the header Content-Length.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    break_after: int = 0
    sends_length: bool = True
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ''

    def put(self, repository: str, file: str, content: bytes) -> None:
        """Add a file to the branch `main` of a repository."""
        self.files[f'/{repository}/resolve/main/{file}'] = content


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub within the context."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.asked.append((self.path, dict(self.headers)))
            if self.path.startswith('/store'):
                return self._send(hub.files[self.path.removeprefix('/store')])
            if self.path not in hub.files:
                return self.send_error(404)
            repository = '/'.join(self.path.split('/')[1:3])
            if repository in hub.gated and self.headers['Authorization'] != 'Bearer secret':
                return self.send_error(401)
            self.send_response(302)
            self.send_header('Location', f'{hub.url}/store{self.path}')
            self.end_headers()
            return None

        def _send(self, content: bytes) -> None:
            tag, start = f'"{hash(content)}"', 0
            if 'Range' in self.headers and self.headers.get('If-Range') == tag:
                start = int(self.headers['Range'].removeprefix('bytes=').rstrip('-'))
            if start >= len(content):
                self.send_response(416)
                self.send_header('Content-Range', f'bytes */{len(content)}')
                self.send_header('Content-Length', '0')
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if hub.sends_length:
                self.send_header('Content-Length', str(len(content) - start))
            self.send_header('ETag', tag)
            self.end_headers()
            end, hub.break_after = start + hub.break_after if hub.break_after else None, 0
            with contextlib.suppress(ConnectionError):  # the client may disconnect early
                self.wfile.write(content[start:end])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    hub.url = f'http://127.0.0.1:{server.server_port}'
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
