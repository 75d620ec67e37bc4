"""Guessing passwords: a table of who is held up by whom. It hurts the guesser, not the account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx
import pytest
import redis
from fastapi import FastAPI

from inference_gateway.auth import throttle
from inference_gateway.auth.passwords import Passwords
from inference_gateway.settings import GatewaySettings

PASSWORD = "password123"
INGRESS = "198.51.100.1"
GUESSER = "203.0.113.6"
HOME = "192.0.2.7"
Headers = Callable[..., dict[str, str]]


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    """Tests choose their address: the test client connects from this machine."""
    settings.trusted_proxies = "127.0.0.1"
    settings.registrations_per_address = 3
    return settings


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred guesses would keep a machine busy with hashing for a minute."""

    async def hashed(_: Passwords, password: str, address: str) -> str:
        return f"hash of {password}"

    async def verify(_: Passwords, password: str, hashed: str | None, address: str) -> bool:
        return hashed == f"hash of {password}"

    monkeypatch.setattr(Passwords, "hash", hashed)
    monkeypatch.setattr(Passwords, "verify", verify)


@dataclass
class Place:
    """A client at an address, with or without a jar for cookies."""

    client: httpx.AsyncClient
    address: str
    cookies: dict[str, str] | None = None

    async def register(self, name: str) -> httpx.Response:
        person = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        return await self._post("/v1/auth/register", json=person)

    async def log_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        answer = await self._post("/v1/auth/token", data={"username": name, "password": password})
        if self.cookies is not None:
            self.cookies |= dict(answer.cookies)
        return answer

    async def guess(self, name: str, times: int) -> int:
        """Status of the last."""
        for _ in range(times):
            answer = await self.log_in(name, "wrong-password")
        return answer.status_code

    async def _post(self, path: str, **options: object) -> httpx.Response:
        self.client.cookies.clear()
        for name, value in (self.cookies or {}).items():
            self.client.cookies.set(name, value)
        headers = {"X-Forwarded-For": self.address}
        answer = await self.client.post(path, headers=headers, **options)  # type: ignore[arg-type]
        self.client.cookies.clear()
        return answer


@pytest.fixture
def place(client: httpx.AsyncClient) -> Callable[..., Place]:
    return lambda address, **options: Place(client, address, **options)


Places = Callable[..., Place]

# (who guessed what how often before, from where; who logs in rightly, from where; with what status)
SCENARIOS = [
    pytest.param([("ada", 12, GUESSER)], ("ada", HOME), 200, id="the account, from elsewhere"),
    pytest.param([("ada", 12, GUESSER)], ("ada", GUESSER), 429, id="the guesser, rightly at last"),
    pytest.param([("ada", 12, INGRESS)], ("bob", INGRESS), 200, id="others behind the ingress"),
    pytest.param(
        [("ada", 12, f"203.0.113.{n}") for n in range(10, 15)],
        ("ada", HOME),
        200,
        id="guessers at many addresses, the account from a new one",
    ),
    pytest.param([("ada", 9, HOME)], ("ada", HOME), 200, id="somebody who forgot the password"),
    pytest.param(
        [("ada", 12, "2001:db8:9::1")], ("ada", "2001:db8:9::2"), 429, id="the same line (IPv6)"
    ),
    pytest.param(
        [("ada", 12, "2001:db8:9::1")], ("ada", "2001:db8:8::1"), 200, id="another line (IPv6)"
    ),
    pytest.param([("nobody", 12, GUESSER)], ("ada", GUESSER), 200, id="an account that is not"),
]


@pytest.mark.parametrize(("guesses", "attempt", "status"), SCENARIOS)
async def test_who_is_held_up(
    place: Places, guesses: list[tuple[str, int, str]], attempt: tuple[str, str], status: int
) -> None:
    for name in ("ada", "bob"):
        assert (await place(HOME).register(name)).status_code == 201
    for name, times, address in guesses:
        await place(address).guess(name, times)
    name, address = attempt
    assert (await place(address).log_in(name)).status_code == status


async def test_the_wait_grows(place: Places, redis_client: redis.Redis) -> None:
    guesser, waits = place(GUESSER), []
    for _ in range(25):
        assert (await guesser.log_in("ada", "wrong")).status_code == 401
        (pair,) = redis_client.scan_iter("inference:login:*")
        seconds, microseconds = redis_client.time()
        until = float(redis_client.hget(pair, "until") or 0)
        waits.append(max(0, round(until - seconds - microseconds / 1e6)))
        redis_client.hset(pair, "until", "0")  # that time has passed
    assert waits[:9] == [0] * 9
    assert waits[9:14] == [1, 2, 4, 8, 16]
    assert waits[-1] == 900


async def test_who_has_to_wait_is_told_until_when(place: Places, redis_client: redis.Redis) -> None:
    guesser = place(GUESSER)
    await guesser.guess("ada", 1)
    (pair,) = redis_client.scan_iter("inference:login:*")
    redis_client.hset(pair, "until", str(redis_client.time()[0] + 100))
    refused = await guesser.log_in("ada")
    assert refused.status_code == 429
    assert 90 < int(refused.headers["Retry-After"]) <= 100
    assert refused.json()["detail"].startswith("Request was throttled. Too many wrong passwords")


async def test_a_known_device_is_not_held_up_by_a_guesser_at_its_own_address(
    place: Places,
) -> None:
    mine = place(INGRESS, cookies={})
    await mine.register("ada")
    assert (await mine.log_in("ada")).status_code == 200
    assert await place(INGRESS).guess("ada", 12) == 429
    assert (await mine.log_in("ada")).status_code == 200


async def test_a_device_is_known_to_its_account_only(place: Places) -> None:
    mine = place(INGRESS, cookies={})
    await mine.register("ada")
    await mine.log_in("ada")
    forged = replace(mine, cookies=dict(mine.cookies or {}))
    assert await forged.guess("bob", 12) == 429
    assert await place(INGRESS).guess("bob", 1) == 429
    (name,) = forged.cookies or {}
    made_up = place(INGRESS, cookies={name: "device.signature"})
    assert await made_up.guess("bob", 1) == 429


async def test_who_tries_many_accounts_is_slowed_down_by_the_address(
    place: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "NEW_PAIRS", replace(throttle.NEW_PAIRS, burst=10))
    await place(INGRESS).register("ada")
    await place(HOME).register("bob")
    sprayer = place(INGRESS)
    statuses = [await sprayer.guess(f"name-{number}", 1) for number in range(14)]
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429
    # Ada has been there before, Bob is elsewhere.
    assert (await place(INGRESS).log_in("ada")).status_code == 200
    assert (await place(HOME).log_in("bob")).status_code == 200


async def test_who_knows_the_password_never_waits(place: Places) -> None:
    mine = place(HOME)
    await mine.register("ada")
    assert [(await mine.log_in("ada")).status_code for _ in range(15)] == [200] * 15


async def test_many_who_log_in_rightly_for_the_first_time_slow_down_nobody(
    place: Places, sql: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "NEW_PAIRS", replace(throttle.NEW_PAIRS, burst=10))
    sql(
        "INSERT INTO users (username, email, password_hash, webhook_secret) "
        f"SELECT 'u' || n, n || '@example.com', 'hash of {PASSWORD}', 'whsec_x' "
        "FROM generate_series(1, 14) n"
    )
    statuses = [(await place(INGRESS).log_in(f"u{number}")).status_code for number in range(1, 15)]
    assert statuses == [200] * 14


async def test_guesses_at_once_do_not_slip_through(place: Places) -> None:
    await place(HOME).register("ada")
    answers = await asyncio.gather(*(place(GUESSER).guess("ada", 1) for _ in range(30)))
    assert answers.count(401) <= 11


async def test_without_redis_guessing_is_slowed_down_here(
    place: Places, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(**_: object) -> int:
        raise redis.ConnectionError("away")

    await place(HOME).register("ada")
    for script in ("_attempt", "_success"):
        monkeypatch.setattr(app.state.services.throttle, script, away)
    assert await place(GUESSER).guess("ada", 12) == 429
    assert (await place(HOME).log_in("ada")).status_code == 200


async def test_registration_is_limited_by_address(place: Places, settings: GatewaySettings) -> None:
    for number in range(settings.registrations_per_address):
        app_answer = await place(GUESSER).register(f"g{number}")
        assert app_answer.status_code == 201
    refused = await place(GUESSER).register("one-more")
    assert refused.status_code == 429
    assert "REGISTRATIONS_PER_ADDRESS" in refused.json()["detail"]
    assert (await place(HOME).register("ada")).status_code == 201
