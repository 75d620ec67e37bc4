"""Access tokens. The only module that uses python-jose, whose defaults accept too much."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any

from jose import jwt
from jose.exceptions import ExpiredSignatureError, JOSEError

ALGORITHM = "HS256"
ISSUER = "inference-gateway"
AUDIENCE = "inference-api"
_REQUIRED = ("exp", "iat", "iss", "aud", "sub", "jti")
_OPTIONS = {f"require_{claim}": True for claim in _REQUIRED}
_MAX_LENGTH = 4096


class InvalidToken(Exception):
    """The token is malformed, not issued by this server, or was changed."""


class ExpiredToken(InvalidToken):
    pass


@dataclass(frozen=True)
class Claims:
    user_id: str
    username: str
    token_version: int
    expires_at: float
    """Unix time, seconds."""


class AccessTokens:
    """Issues and verifies.

    Args:
        secret: the signing key. Its hash is the `kid`, which tells a changed key from a forgery.
        minutes: lifetime of a token.
    """

    def __init__(self, secret: str, minutes: int) -> None:
        self.lifetime = minutes * 60
        """Seconds."""
        self._kid = hashlib.sha256(secret.encode()).hexdigest()[:8]
        self._keys = {self._kid: secret}

    def issue(self, user_id: str, username: str, token_version: int = 1) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "name": username,
            "ver": token_version,
            "iat": now,
            "exp": now + self.lifetime,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._keys[self._kid], ALGORITHM, headers={"kid": self._kid})

    def verify(self, token: str) -> Claims:
        """Raises InvalidToken, ExpiredToken."""
        if len(token) > _MAX_LENGTH:
            raise InvalidToken
        try:
            claims = jwt.decode(
                token,
                self._key(jwt.get_unverified_header(token)),
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options=_OPTIONS,
            )
            return Claims(claims["sub"], claims["name"], int(claims["ver"]), claims["exp"])
        except ExpiredSignatureError as error:
            raise ExpiredToken from error
        except (JOSEError, KeyError, TypeError, ValueError) as error:
            raise InvalidToken from error

    def _key(self, header: dict[str, Any]) -> str:
        # RFC 7515 4.1.11: a critical extension that is not understood makes a token invalid.
        if "crit" in header or header.get("alg") != ALGORITHM:
            raise InvalidToken
        return self._keys[header.get("kid", "")]
