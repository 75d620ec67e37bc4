"""One attempt to deliver one webhook: one connection, one request, one deadline."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import httpcore

from inference_gateway.webhooks.backend import AddressRefused, GuardedBackend
from inference_gateway.webhooks.guard import split
from inference_gateway.webhooks.retry import Receipt, parse_retry_after

_MAX_ANSWER_BYTES = 65_536
_MAX_ERROR = 300
_SLICE_BYTES = 65_536


class Sender:
    """Thread-safe. Proxies and certificates from environment variables are not used; redirects are
    not followed.
    """

    def __init__(self, *, timeout_seconds: float, allow_loopback: bool) -> None:
        self._timeout_seconds = timeout_seconds
        self._allow_loopback = allow_loopback
        self._tls = ssl.create_default_context()

    def send(
        self, url: str, headers: Mapping[str, str], body: Sequence[bytes], *, trusted: bool = False
    ) -> Receipt:
        """Send once. Errors of the receiver or the network are part of the Receipt.

        Args:
            body: in pieces.
            trusted: whether it is for an administrator, who may reach this machine if allowed.
        """
        try:
            return self._post(url, headers, body, self._allow_loopback and trusted)
        except AddressRefused as error:
            return Receipt(error=str(error), final=True)
        except ValueError as error:
            return Receipt(error=f"the URL {error}", final=True)
        except (httpcore.TimeoutException, TimeoutError):
            return Receipt(error=f"no answer within {self._timeout_seconds:g} s")
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            return Receipt(error=(str(error) or type(error).__name__)[:_MAX_ERROR])

    def _post(
        self, url: str, headers: Mapping[str, str], body: Sequence[bytes], allow_loopback: bool
    ) -> Receipt:
        parts, host, port = split(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        backend = GuardedBackend(time.monotonic() + self._timeout_seconds, allow_loopback)
        pool = httpcore.ConnectionPool(
            ssl_context=self._tls, network_backend=backend, http1=True, http2=False
        )
        request = {
            "Host": parts.netloc,
            "User-Agent": "inference-server-webhooks",
            "Content-Type": "application/json",
            "Content-Length": str(sum(map(len, body))),
            "Connection": "close",
            **headers,
        }
        where = httpcore.URL(scheme=parts.scheme, host=host, port=port, target=target)
        fields, content = list(request.items()), _slices(body)
        with pool, pool.stream("POST", where, headers=fields, content=content) as got:
            asked = dict(got.headers).get(b"retry-after") or _header(got.headers, b"retry-after")
            _read_some(got)
        retry_after = parse_retry_after(asked.decode("latin-1"), datetime.now(UTC))
        error = None if 200 <= got.status < 300 else f"answered {got.status}"
        return Receipt(status=got.status, error=error, retry_after=retry_after)


def _slices(body: Sequence[bytes]) -> Iterator[bytes]:
    """Slices of the body: data is copied when sent, and the unsent rest is copied again."""
    for piece in body:
        for start in range(0, len(piece), _SLICE_BYTES):
            yield piece[start : start + _SLICE_BYTES]


def _header(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for key, value in headers if key.lower() == name), b"")


def _read_some(response: httpcore.Response) -> None:
    """Read a part of the response body, so that the receiver can finish; not an endless one."""
    size = 0
    for chunk in response.iter_stream():
        size += len(chunk)
        if size > _MAX_ANSWER_BYTES:
            return
