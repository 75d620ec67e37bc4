"""Slows down password guessing without locking out the account's owner.

Attempts are counted by the pair of account and place. A place is an address or a device: a
successful log-in returns a cookie that tells the device from others behind the same address. A pair
may fail ten times; then each attempt must wait longer than the one before. The same account from
another place, and another account from the same place, are other pairs.

Guessing at many accounts is limited by address: a fixed rate of new pairs per minute. Pairs that
logged in (or registered) within the last month are not new.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from inference_gateway.http.addresses import site
from inference_gateway.rates import metrics
from inference_gateway.rates.gcra import Rate, throttled
from inference_gateway.rates.limiter import Charge, Limiter

log = logging.getLogger(__name__)

FREE = 10
"""Failed attempts of a pair before the first wait."""
LONGEST_WAIT = 900
"""Seconds. The wait begins with one and doubles."""
_FORGOTTEN_AFTER = 6 * 3600
_GOOD_SECONDS = 30 * 86_400
COOKIE = "inference_device"
COOKIE_SECONDS = 90 * 86_400

_PAIR = Rate(
    "login", 1 / 30, FREE, "Too many wrong passwords for this account from this address or device"
)
NEW_PAIRS = Rate(
    "login-address",
    1 / 6,
    100,
    "Too many attempts to log in from this address, to accounts that never logged in from there",
)

# Counted before the password is checked, so that parallel guesses are counted too.
_ATTEMPT = """
local pair, good, address = KEYS[1], KEYS[2], KEYS[3]
local free, longest = tonumber(ARGV[1]), tonumber(ARGV[2])
local interval, tolerance = tonumber(ARGV[4]), tonumber(ARGV[5])
local t = redis.call('TIME')
local now = t[1] + t[2] / 1e6
local state = redis.call('HMGET', pair, 'count', 'until')
local count, wait = tonumber(state[1] or '0'), tonumber(state[2] or '0') - now
if wait > 0 then return {1, string.format('%.3f', wait)} end
if count == 0 and redis.call('EXISTS', good) == 0 then
  local tat = math.max(tonumber(redis.call('GET', address) or '0'), now) + interval
  if tat - now > tolerance then return {2, string.format('%.3f', tat - now - tolerance)} end
  redis.call('SET', address, string.format('%.6f', tat), 'PX', math.ceil((tat - now) * 1000) + 1000)
end
count = count + 1
local delay = 0
if count >= free then delay = math.min(2 ^ math.min(count - free, 30), longest) end
redis.call('HSET', pair, 'count', count, 'until', string.format('%.3f', now + delay))
redis.call('EXPIRE', pair, ARGV[3])
return {0, '0'}
"""
# A successful log-in: refund the attempt.
_SUCCESS = """
local pair, good, address = KEYS[1], KEYS[2], KEYS[3]
redis.call('DEL', pair)
if redis.call('EXISTS', good) == 0 then
  local tat = redis.call('GET', address)
  if tat then
    redis.call('SET', address, string.format('%.6f', tat - ARGV[2]), 'KEEPTTL')
  end
end
redis.call('SET', good, '1', 'EX', ARGV[1])
return 0
"""


@dataclass(frozen=True)
class Attempt:
    """An attempt to log in: account, and address or device."""

    account: str
    """The name as it was sent: the account may not exist."""
    address: str
    device: str | None = None
    """The device, by our cookie."""

    @property
    def keys(self) -> list[str]:
        """The keys in Redis. Hashed, as a name may be of any length."""
        place = f"device:{self.device}" if self.device else f"address:{site(self.address)}"
        pair = hashlib.sha256(f"{self.account}\0{place}".encode()).hexdigest()[:32]
        address = Charge.of(NEW_PAIRS, site(self.address)).key
        return [f"inference:login:{pair}", f"inference:login:good:{pair}", address]


class LoginThrottle:
    """Args:
    limiter: counts in this process alone while Redis does not answer.
    secret: signs the cookies.
    """

    def __init__(self, client: redis.asyncio.Redis, limiter: Limiter, secret: str) -> None:
        self._attempt: Any = client.register_script(_ATTEMPT)
        self._success: Any = client.register_script(_SUCCESS)
        self._limiter = limiter
        self._key = hashlib.sha256(f"device cookies {secret}".encode()).digest()

    async def attempt(self, account: str, address: str, cookie: str | None) -> Attempt:
        """Raises TooManyRequests."""
        made = Attempt(account, address, self._device(account, cookie))
        arguments = [FREE, LONGEST_WAIT, _FORGOTTEN_AFTER, NEW_PAIRS.interval]
        try:
            which, wait = await self._attempt(
                keys=made.keys, args=[*arguments, NEW_PAIRS.tolerance]
            )
        except (RedisError, OSError) as error:
            log.warning("log-ins are counted here alone: Redis does not answer (%s)", error)
            self._limiter.take([Charge(_PAIR, made.keys[0])])
            return made
        if which:
            rate = _PAIR if which == 1 else NEW_PAIRS
            metrics.THROTTLED.labels(rate.name).inc()
            raise throttled(rate, float(wait))
        return made

    async def succeeded(self, made: Attempt) -> None:
        """Refund the attempt; the next ones of this pair are not new."""
        try:
            await self._success(keys=made.keys, args=[_GOOD_SECONDS, NEW_PAIRS.interval])
        except (RedisError, OSError):
            log.debug("an attempt to log in stays counted", exc_info=True)

    async def registered(self, account: str, address: str) -> None:
        await self.succeeded(Attempt(account, address))

    def cookie(self, made: Attempt) -> str:
        """The cookie for the client that has just logged in."""
        device = made.device or secrets.token_hex(16)
        return f"{device}.{self._sign(made.account, device)}"

    def _device(self, account: str, cookie: str | None) -> str | None:
        """The device; None if the cookie was not issued for this account."""
        device, _, signature = (cookie or "").partition(".")
        good = self._sign(account, device)
        is_ours = hmac.compare_digest(signature.encode(), good.encode())
        return device if device and is_ours else None

    def _sign(self, account: str, device: str) -> str:
        return hmac.new(self._key, f"{device}\0{account}".encode(), hashlib.sha256).hexdigest()
