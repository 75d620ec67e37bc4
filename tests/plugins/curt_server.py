"""A server that sends a given answer to one request, and closes the connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def server_that_says(answer: bytes | None) -> Iterator[str]:
    """The URL of a server that reads a request, sends this and closes the connection; None: of no
    server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if answer is None:
            listener.close()
            yield url
            return

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield url
        thread.join()
