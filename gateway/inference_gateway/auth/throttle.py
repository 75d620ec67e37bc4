"""Slows down guessing of passwords: a fixed window per account and per address, in Redis."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from inference_gateway.errors import TooManyRequests

log = logging.getLogger(__name__)

WINDOW_SECONDS = 300
PER_ACCOUNT = 10
PER_ADDRESS = 100
"""Failed attempts a window; an address may be an office behind one router."""

# Counted before the password is looked at, so that parallel guesses do not slip through.
_TAKE = """
local wait = 0
for i, key in ipairs(KEYS) do
  local count = redis.call('INCR', key)
  if count == 1 then redis.call('EXPIRE', key, ARGV[1]) end
  if count > tonumber(ARGV[i + 1]) then wait = math.max(wait, redis.call('TTL', key), 1) end
end
return wait
"""


class LoginThrottle:
    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client
        self._take: Any = client.register_script(_TAKE)

    async def attempt(self, username: str, address: str) -> None:
        """Raises TooManyRequests. Without Redis nobody is held up."""
        arguments = [WINDOW_SECONDS, PER_ACCOUNT, PER_ADDRESS]
        try:
            wait = await self._take(keys=_keys(username, address), args=arguments)
        except RedisError as error:
            log.warning("logins are not throttled: Redis does not answer (%s)", error)
            return
        if wait:
            raise TooManyRequests(
                f"Request was throttled. Too many attempts to log in: try again in {wait} seconds.",
                headers={"Retry-After": str(wait)},
            )

    async def succeeded(self, username: str, address: str) -> None:
        """The attempt was no guess: it does not count."""
        account, from_address = _keys(username, address)
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.delete(account)
                pipe.decr(from_address)
                await pipe.execute()
        except RedisError:
            log.debug("an attempt to log in stays counted", exc_info=True)


def _keys(username: str, address: str) -> list[str]:
    # Hashed: a name from outside must not choose a key of any length.
    account = hashlib.sha256(username.encode()).hexdigest()[:32]
    return [f"inference:login:account:{account}", f"inference:login:address:{address}"]
