"""What is read of an API server's refusal."""

from __future__ import annotations

from typing import Any

import pytest

from inference_contract import kubernetes_status


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'{"kind":"Status","message":"no","code":403}', {"message": "no", "code": 403}),
        (b"<html>502</html>", {"message": "<html>502</html>"}),
        (b'{"error":"busy"}', {"message": '{"error":"busy"}', "error": "busy"}),
        (b'["message"]', {"message": '["message"]'}),
        (b"\xff" + b"x" * 500, {"message": "\ufffd" + "x" * 199}),
        (b"[" * 10_000, {"message": "[" * 200}),
        (b"", {"message": ""}),
    ],
)
def test_a_status_or_the_beginning_of_what_came_instead(
    content: bytes, found: dict[str, Any]
) -> None:
    status = kubernetes_status.read(content)
    status.pop("kind", None)
    assert status == found
