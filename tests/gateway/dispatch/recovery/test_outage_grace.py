"""Redis took no writes for a while: runners that live could not say so, and none counts as dead
until they had a lease's time for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from clock import Clock
from narrow import there
from redis.backoff import NoBackoff
from redis.retry import Retry

from inference_contract import functions
from inference_gateway.dispatch.recovery import jobs
from inference_gateway.dispatch.recovery.outage_grace import OutageGrace, Sign, Stretch
from inference_local import valkey

LEASE = 30.0
END_LEASE = "UPDATE predictions SET lease_until = now() - interval '1 second'"


class Watch:
    """A grace whose time the test has."""

    def __init__(self, client: redis.Redis, lease: float = LEASE) -> None:
        self.clock = Clock()
        self.grace = OutageGrace(client, lease, self.clock)

    def hear(self, seconds: float = LEASE) -> None:
        """Redis takes writes for so long, and is asked now and then."""
        self.grace.step()
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(self.clock.now + LEASE / 5, end)
            self.grace.step()

    def active(self) -> bool:
        return self.grace.active(self.grace.now())


# What is decided.


@pytest.mark.parametrize(
    ("ours", "theirs", "since"),
    [(5, 5, 0), (5, -600, 0), (8, 5, 108), (5, 8, 105)],
    ids=["no gap", "its clock set back", "silence", "its clock goes forward, ours stood still"],
)
def test_a_stretch_begins_anew_after_a_gap(ours: float, theirs: float, since: float) -> None:
    stretch = Stretch(0, Sign(100, 5000))
    assert stretch.on(Sign(100 + ours, 5000 + theirs), gap=7).since == since


@pytest.mark.parametrize(
    ("since", "now", "covers"), [(49, 100, True), (51, 100, False), (49, 108, False)]
)
def test_a_stretch_covers_what_it_began_before_and_goes_on_after(
    since: float, now: float, covers: bool
) -> None:
    assert Stretch(since, Sign(100, 0)).covers(50, now, gap=7) is covers


# What is noticed, of a server of its own.


@pytest.fixture
def server(wait_until: Callable[..., Any]) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="inference-test-") as folder:
        root = Path(folder)
        (root / "valkey").mkdir()
        with (root / "log").open("wb") as log:
            argv = valkey.command(root / "valkey", root)
            process = subprocess.Popen(argv, stderr=log, stdout=log)
        made = Server(root, process, wait_until)
        try:
            made.begin()
            yield made
        finally:
            process.kill()
            process.wait(10)


class Server:
    def __init__(
        self, root: Path, process: subprocess.Popen[bytes], wait_until: Callable[..., Any]
    ) -> None:
        self.root, self.process, self.wait_until = root, process, wait_until
        self.client = redis.Redis.from_url(valkey.url(root))

    def begin(self) -> None:
        self.wait_until(lambda: valkey.is_ready(self.root))
        self.client.execute_command(*functions.LOAD)

    def impatient(self) -> redis.Redis:
        never = Retry(NoBackoff(), 0)
        return redis.Redis.from_url(valkey.url(self.root), socket_timeout=0.5, retry=never)


@contextmanager
def set_to(server: Server, **values: str | int) -> Iterator[None]:
    before = {name: there(server.client.config_get(name)[name]) for name in values}
    for name, value in values.items():
        server.client.config_set(name, value)
    yield
    for name, value in before.items():
        server.client.config_set(name, value)


def full(server: Server) -> AbstractContextManager[None]:
    return set_to(server, maxmemory=1)


def without_replicas(server: Server) -> AbstractContextManager[None]:
    return set_to(server, **{"min-replicas-to-write": 1})


def without_connections(server: Server) -> AbstractContextManager[None]:
    return set_to(server, maxclients=1)


@contextmanager
def unable_to_save(server: Server) -> Iterator[None]:
    shutil.rmtree(server.root / "valkey")
    server.client.config_set("appendonly", "no")
    server.client.config_set("save", "3600 1")
    with suppress(redis.ResponseError):
        server.client.bgsave()
    server.wait_until(lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err")
    yield
    server.client.config_set("stop-writes-on-bgsave-error", "no")


@contextmanager
def a_replica(server: Server) -> Iterator[None]:
    server.client.replicaof("127.0.0.1", "1")
    yield
    server.client.replicaof("NO", "ONE")


@contextmanager
def busy(server: Server) -> Iterator[None]:
    def spin() -> None:
        with suppress(redis.RedisError), redis.Redis.from_url(valkey.url(server.root)) as client:
            client.eval("while true do end", 0)

    def is_busy() -> bool:
        try:
            return not server.client.ping()
        except redis.ResponseError:
            return True

    with set_to(server, **{"busy-reply-threshold": 1}):
        thread = threading.Thread(target=spin)
        thread.start()
        server.wait_until(is_busy)
        yield
        server.client.script_kill()
        thread.join()


@contextmanager
def without_functions(server: Server) -> Iterator[None]:
    server.client.function_flush()
    yield
    server.client.execute_command(*functions.LOAD)


@contextmanager
def without_rights(server: Server) -> Iterator[None]:
    server.client.execute_command("ACL", "SETUSER", "default", "-xadd")
    yield
    server.client.execute_command("ACL", "SETUSER", "default", "+@all")


@contextmanager
def paused(server: Server) -> Iterator[None]:
    server.client.client_pause(60_000, all=False)
    yield
    server.client.client_unpause()


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    os.kill(server.process.pid, signal.SIGSTOP)
    yield
    os.kill(server.process.pid, signal.SIGCONT)


OUTAGES = (
    *(full, without_replicas, without_connections, unable_to_save, a_replica, busy),
    *(without_functions, without_rights, paused, stopped),
)


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.__name__)
def test_nobody_is_dead_where_runners_cannot_renew(
    server: Server, outage: Callable[[Server], AbstractContextManager[None]]
) -> None:
    watch = Watch(server.impatient())
    watch.hear()
    assert not watch.active()
    with outage(server):
        for _ in range(2):
            watch.clock.now += LEASE / 100
            with pytest.raises(redis.RedisError):
                watch.grace.step()
        assert watch.active()
    watch.hear(LEASE - 1)
    assert watch.active()
    watch.hear(1)
    assert not watch.active()


def test_an_answer_that_took_long_is_noticed(
    server: Server, wait_until: Callable[..., Any]
) -> None:
    """Nobody sees an error, neither we nor the runners."""
    grace = OutageGrace(server.client, lease=1.0)

    def trusts() -> bool:
        grace.step()
        return not grace.active(grace.now())

    wait_until(trusts)
    server.client.client_pause(400)
    grace.step()
    assert grace.active(grace.now())


def test_a_process_that_stood_still_notices_it(redis_client: redis.Redis, lab: Any) -> None:
    watch = Watch(redis_client)
    watch.hear()
    watch.clock.now += 100
    assert watch.active()  # whichever thread goes on first
    watch.grace.step()
    assert watch.active()


def test_a_look_during_which_redis_stood_still_says_nothing(
    redis_client: redis.Redis, lab: Any
) -> None:
    watch = Watch(redis_client)
    watch.hear()
    began = watch.grace.now()
    watch.clock.now += 100
    watch.hear(10)
    assert watch.grace.active(began)


def test_who_has_just_been_started_knows_of_nobody_that_he_is_dead(
    redis_client: redis.Redis, lab: Any
) -> None:
    watch = Watch(redis_client)
    assert watch.active()
    watch.hear(LEASE - 1)
    assert watch.active()


# What comes of it.


def begun(lab: Any) -> str:
    """Its runner has said so, and nothing since."""
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.send("started", lab.claim())
    lab.record()
    lab.sql(END_LEASE)
    return str(prediction)


def claimed(lab: Any) -> str:
    """Its runner has said nothing yet."""
    prediction = lab.insert()
    lab.enqueue(prediction)
    lab.claim(lease=-1)
    return str(prediction)


both_judges = pytest.mark.parametrize(
    ("prepare", "who"), [(begun, "sweeper"), (claimed, "relay")], ids=["sweeper", "relay"]
)


@contextmanager
def full_memory(client: redis.Redis) -> Iterator[None]:
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@pytest.fixture
def watch(lab: Any) -> Watch:
    watch = Watch(redis.Redis(connection_pool=redis.ConnectionPool.from_url(lab.url)))
    watch.hear()
    return watch


@both_judges
def test_no_runner_counts_as_dead_while_redis_is_full_and_a_lease_after(
    lab: Any, watch: Watch, prepare: Callable[[Any], str], who: str
) -> None:
    judge = getattr(lab, who)(grace=watch.grace)
    prediction = prepare(lab)
    with full_memory(lab.redis):
        for _ in range(3):
            watch.clock.now += LEASE / 100
            with pytest.raises(redis.OutOfMemoryError):
                watch.grace.step()
            with suppress(redis.OutOfMemoryError):
                judge.step()
            assert lab.row(prediction)["attempt"] == 1
    watch.grace.step()
    for _ in range(3):
        judge.step()
        assert lab.row(prediction)["attempt"] == 1
        watch.hear(LEASE / 3)
    judge.step()
    row = lab.row(prediction)
    assert (row["attempt"], row["crashes"]) == (2, 1)


def test_redis_stands_still_while_the_relay_looks(
    lab: Any, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does the runner's renewal, and what the relay then reads is a lease that has ended."""
    prediction = claimed(lab)
    read = jobs.leases

    def late(*args: Any) -> jobs.Leases:
        watch.clock.now += 100
        watch.grace.step()
        return read(*args)

    monkeypatch.setattr(jobs, "leases", late)
    lab.relay(grace=watch.grace).step()
    assert lab.row(prediction)["attempt"] == 1


@pytest.fixture
def held(lab: Any) -> OutageGrace:
    """Nobody counts as dead."""
    return Watch(lab.redis).grace


def test_a_deadline_is_kept(lab: Any, held: OutageGrace) -> None:
    prediction = begun(lab)
    lab.sql("UPDATE predictions SET deadline = now() - interval '1 second'")
    lab.sweeper(grace=held).step()
    row = lab.row(prediction)
    assert (row["status"], row["error_code"]) == ("canceled", "deadline_exceeded")


def test_a_deadline_is_kept_though_a_full_redis_takes_no_request_to_cancel(
    lab: Any, held: OutageGrace
) -> None:
    canceled, late = begun(lab), begun(lab)
    cancel = "UPDATE predictions SET cancel_requested_at = now(), lease_until = NULL WHERE id = :id"
    lab.sql(cancel, id=canceled)
    lab.sql("UPDATE predictions SET deadline = now() - interval '1 second' WHERE id = :id", id=late)
    with full_memory(lab.redis), pytest.raises(redis.OutOfMemoryError):
        lab.sweeper(grace=held).step()
    assert lab.row(late)["error_code"] == "deadline_exceeded"


def test_what_was_lost_is_handed_out_at_once(lab: Any, held: OutageGrace) -> None:
    prediction = lab.insert()
    lab.relay(grace=held).step()
    row = lab.row(prediction)
    assert (row["attempt"], row["crashes"]) == (2, 0)


def test_a_lease_that_redis_has_lost_accuses_nobody(lab: Any) -> None:
    prediction = claimed(lab)
    lab.redis.delete("rq:wip:ada_echo")
    lab.relay().step()
    row = lab.row(prediction)
    assert (row["attempt"], row["crashes"]) == (2, 0)


@both_judges
def test_who_is_silent_since_redis_lost_its_memory_may_have_told_its_end(
    lab: Any, watch: Watch, prepare: Callable[[Any], str], who: str
) -> None:
    judge = getattr(lab, who)(grace=watch.grace)
    prediction = prepare(lab)
    lab.redis.delete("inference:mark")  # As a restart, or FLUSHALL; what else went does not matter.
    watch.grace.step()
    judge.step()
    row = lab.row(prediction)
    assert (row["attempt"], row["crashes"]) == (2, 0)
    watch.hear(3 * LEASE)
    assert not watch.grace.ends_may_be_lost()
