"""Password hashing (argon2id) on a few threads, shared fairly among addresses."""

from __future__ import annotations

import warnings

from inference_gateway.background.lanes import Lane

with warnings.catch_warnings():
    # passlib 1.7.4, its last release, still imports the standard library's `crypt`.
    warnings.simplefilter("ignore", DeprecationWarning)
    from passlib.context import CryptContext
    from passlib.handlers.argon2 import argon2 as _backend

    _backend.get_backend()

UNUSABLE = "!"
"""Stored instead of a hash: no password matches."""

# OWASP's second recommendation for argon2id: 19 MiB (in KiB here), 2 passes, 1 lane.
_CONTEXT = CryptContext(
    schemes=["argon2"],
    argon2__memory_cost=19_456,
    argon2__time_cost=2,
    argon2__parallelism=1,
)


class Passwords:
    """Hashing and verification have separate threads, so that registrations delay no log-in."""

    def __init__(self) -> None:
        self._new = Lane("registrations", threads=1)
        self._known = Lane("log-ins", threads=2)
        self._dummy: str | None = None

    async def hash(self, password: str, address: str) -> str:
        """Raises TooManyRequests, Unavailable: too many wait, from this address or in all."""
        return await self._new.run(address, _hash, password)

    async def verify(self, password: str, hashed: str | None, address: str) -> bool:
        """Takes as long for a missing user (`None`) as for a wrong password.

        Raises TooManyRequests, Unavailable.
        """
        if hashed is None or hashed == UNUSABLE:
            if self._dummy is None:
                self._dummy = await self._known.run(address, _hash, "nobody's password")
            await self._known.run(address, _verify, password, self._dummy)
            return False
        return await self._known.run(address, _verify, password, hashed)

    def close(self) -> None:
        self._new.close()
        self._known.close()


def _hash(password: str) -> str:
    return str(_CONTEXT.hash(password))


def _verify(password: str, hashed: str) -> bool:
    return bool(_CONTEXT.verify(password, hashed))
