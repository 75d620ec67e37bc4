"""A server that says what a test wants, and hangs up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def server_that_says(answer: bytes | None) -> Iterator[str]:
    """The URL of one that reads a request, says this and hangs up; None: it is not there."""
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
