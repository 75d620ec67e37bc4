"""Password hashing (argon2id), off the event loop and never more than two at a time."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

with warnings.catch_warnings():
    # passlib 1.7.4, its last release, still imports the standard library's `crypt`.
    warnings.simplefilter("ignore", DeprecationWarning)
    from passlib.context import CryptContext
    from passlib.handlers.argon2 import argon2 as _backend

    _backend.get_backend()

T = TypeVar("T")

UNUSABLE = "!"
"""In place of a hash: no password fits."""

# OWASP's second recommendation for argon2id: 19 MiB (in KiB here), 2 passes, 1 lane.
_CONTEXT = CryptContext(
    schemes=["argon2"],
    argon2__memory_cost=19_456,
    argon2__time_cost=2,
    argon2__parallelism=1,
)


class Passwords:
    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")
        self._dummy: str | None = None

    async def hash(self, password: str) -> str:
        return await self._run(_hash, password)

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Takes as long for a user who is not there (`None`) as for a wrong password."""
        if hashed is None or hashed == UNUSABLE:
            self._dummy = self._dummy or await self.hash("nobody's password")
            await self._run(_verify, password, self._dummy)
            return False
        return await self._run(_verify, password, hashed)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[..., T], *arguments: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


def _hash(password: str) -> str:
    return str(_CONTEXT.hash(password))


def _verify(password: str, hashed: str) -> bool:
    return bool(_CONTEXT.verify(password, hashed))
