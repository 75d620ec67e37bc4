"""Tokens that must not pass."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from jose import jwt

from inference_gateway.auth.jwt import AccessTokens, ExpiredToken, InvalidToken

SECRET = "the-secret-of-this-test-is-long-enough-for-it"
TOKENS = AccessTokens(SECRET, minutes=1440)  # Longer than a run of all tests takes.
GOOD = TOKENS.issue("42", "ada")
HEADER = jwt.get_unverified_header(GOOD)
CLAIMS = jwt.get_unverified_claims(GOOD)


def signed(
    claims: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
    secret: str = SECRET,
) -> str:
    return jwt.encode(claims or CLAIMS, secret, "HS256", headers=headers or HEADER)


def without(claim: str) -> str:
    return signed({key: value for key, value in CLAIMS.items() if key != claim})


def unsigned() -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({**HEADER, "alg": "none"}, CLAIMS)
    ]
    return ".".join([*parts, ""])


def test_a_good_one() -> None:
    claims = TOKENS.verify(GOOD)
    assert (claims.user_id, claims.username, claims.token_version) == ("42", "ada", 1)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="nonsense"),
        pytest.param(GOOD[:-4] + "AAAA", id="signature"),
        pytest.param(unsigned(), id="alg none"),
        pytest.param(
            jwt.encode(CLAIMS, SECRET, "HS512", headers=HEADER | {"alg": "HS512"}), id="alg"
        ),
        pytest.param(signed(secret="another-secret-that-is-long-enough-as-well"), id="key"),
        pytest.param(signed(headers={"kid": "00000000"}), id="kid"),
        pytest.param(signed(headers={"kid": 7}), id="kid type"),
        pytest.param(signed(headers={**HEADER, "crit": ["exp2"]}), id="crit"),
        pytest.param(signed({**CLAIMS, "aud": "another"}), id="another aud"),
        pytest.param(signed({**CLAIMS, "iss": "another"}), id="another iss"),
        pytest.param(signed({**CLAIMS, "admin": True})[:-2], id="tampered"),
        pytest.param("x" * 5000, id="long"),
        *[
            pytest.param(without(claim), id=f"no {claim}")
            for claim in ("exp", "iat", "iss", "aud", "sub", "jti", "name")
        ],
    ],
)
def test_is_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        TOKENS.verify(token)


def test_an_expired_one_is_told_apart() -> None:
    with pytest.raises(ExpiredToken):
        TOKENS.verify(signed({**CLAIMS, "exp": int(time.time()) - 1}))


@pytest.mark.parametrize("version", [None, "x", [], {}])
def test_a_version_that_is_no_number(version: object) -> None:
    with pytest.raises(InvalidToken):
        TOKENS.verify(signed({**CLAIMS, "ver": version}))
