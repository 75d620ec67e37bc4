"""What the commands say of a server that does not say what it did."""

from __future__ import annotations

from contextlib import closing

import pytest
from curt_server import server_that_says

from inference_local.cli.api import Api
from inference_local.cli.errors import CliError

GATEWAY_TIMEOUT = b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "answer", "is_in_doubt"),
    [
        ("DELETE", b"", True),
        ("POST", b"HTTP/1.1 201 Cre", True),
        ("PATCH", GATEWAY_TIMEOUT, True),
        ("POST", REFUSED, False),
        ("POST", None, False),
        ("GET", b"", False),
        ("GET", GATEWAY_TIMEOUT, False),
    ],
)
def test_what_was_perhaps_done_is_said_to_be(
    method: str, answer: bytes | None, is_in_doubt: bool
) -> None:
    with (
        server_that_says(answer) as url,
        closing(Api(url, None)) as api,
        pytest.raises(CliError) as told,
    ):
        api.call(method, "/v1/users/bob")
    assert ("is not known" in str(told.value)) is is_in_doubt
    assert "\n" not in str(told.value)
