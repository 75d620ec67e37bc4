"""Of the memory for large bodies and answers nobody has more than they leave to the others."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from inference_gateway.lifecycle.ids import IdSource
from inference_gateway.settings import GatewaySettings

Auth = Callable[..., dict[str, str]]
Sql = Callable[..., list[dict[str, object]]]
Raw = Callable[[bytes], socket.socket]
SIZE = 200_000
OUTPUT_BYTES = 6_000_000
"""More than the kernel takes for a client that does not read."""
MANY = 10
_INSERT = """
INSERT INTO predictions (id, owner, model, version, token, input, deadline, status, completed_at,
  output)
VALUES (%s, md5(%s)::uuid, 'ada/echo', '1', 't', '{}', now(), 'succeeded', now(), %s)
"""


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    settings.max_bytes_in_flight = 5 * SIZE
    return settings


@pytest.fixture
def raw(live_url: str) -> Iterator[Raw]:
    """Sends bytes on a connection of its own, and reads nothing."""
    with ExitStack() as opened:

        def send(content: bytes) -> socket.socket:
            client = opened.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect(("127.0.0.1", urlsplit(live_url).port))
            client.sendall(content)
            return client

        yield send


def _request(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = (f"{name}: {value}" for name, value in {"Host": "a", **headers}.items())
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


def _status(client: socket.socket) -> bytes:
    return client.recv(4096).split()[1]


def _body(model: str) -> bytes:
    return orjson.dumps({"model": model, "input": {"text": "x" * SIZE}})


def _under_way(live_url: str, auth: Auth, of: str) -> int:
    """What a refusal says that there is."""
    body = orjson.dumps({"model": "ada/echo", "input": {"text": "x" * 4 * SIZE}})
    reply = httpx.post(f"{live_url}/v1/predictions", content=body, headers=auth(of))
    assert reply.status_code == 429, reply.text
    assert int(reply.headers["Retry-After"]) > 0
    found = re.search(r"(\d+) bytes of your bodies and answers are under way", reply.text)
    assert found is not None, reply.text
    return int(found[1])


def test_slow_uploads_of_an_account_leave_room_for_those_of_others(
    live_url: str, auth: Auth, echo: str, raw: Raw
) -> None:
    url, body = f"{live_url}/v1/predictions", _body(echo)
    headers = auth("bob") | {"Content-Length": str(len(body))}
    slow = [raw(_request("POST", "/v1/predictions", headers) + body[:-1]) for _ in range(MANY)]
    refused = _status(slow[-1])
    assert httpx.post(url, content=body, headers=auth("ada")).status_code == 201
    assert refused == b"429"
    assert 0 < _under_way(live_url, auth, "bob") <= 5 * SIZE // 2


def test_bodies_of_nobody_known_leave_room_for_those_of_accounts(
    live_url: str, auth: Auth, echo: str, raw: Raw
) -> None:
    httpx.get(f"{live_url}/v1/predictions", headers=auth("ada")).raise_for_status()
    head = _request("POST", "/v1/auth/register", {"Transfer-Encoding": "chunked"})
    slow = [raw(head + b"ea60\r\n" + b" " * 60_000 + b"\r\n") for _ in range(20)]
    refused, url = _status(slow[-1]), f"{live_url}/v1/predictions"
    assert httpx.post(url, content=_body(echo), headers=auth("ada")).status_code == 201
    assert refused == b"429"


class TestAnswers:
    @pytest.fixture
    def settings(self, settings: GatewaySettings) -> GatewaySettings:
        settings.max_bytes_in_flight = 6 * OUTPUT_BYTES
        return settings

    @pytest.fixture
    def path(self, sql: Sql) -> Callable[[str], str]:
        def make(owner: str) -> str:
            (new, _), output = IdSource().new(), orjson.dumps("x" * OUTPUT_BYTES).decode()
            sql(_INSERT, new, owner, output)
            return f"/v1/predictions/{new}"

        return make

    @pytest.mark.parametrize("is_page", [False, True])
    def test_who_does_not_read_leaves_room_for_the_answers_of_others(
        self,
        live_url: str,
        auth: Auth,
        raw: Raw,
        path: Callable[[str], str],
        is_page: bool,
    ) -> None:
        adas, bobs = path("ada"), path("bob")
        asked = "/v1/predictions" if is_page else adas
        never_read = [raw(_request("GET", asked, auth("ada"))) for _ in range(MANY)]
        statuses = [_status(client) for client in never_read]
        reply = httpx.get(live_url + bobs, headers=auth("bob"), timeout=30)
        assert reply.status_code == 200
        assert len(reply.json()["output"]) == OUTPUT_BYTES
        assert statuses.count(b"200") == 2  # A third would leave less than three.
        assert statuses.count(b"429") == MANY - 2
