"""Every model's runners get a Redis user of their own, from the operator on a real API server."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import redis
from house import CHILD, MODEL, OWNER, House
from kubernetes.client.exceptions import ApiException

from inference_contract import queues
from inference_contract.predictions import Job
from inference_gateway.queue import JobQueue
from inference_local import valkey
from inference_operator.redis_acl import RIGHTS_OF_OPERATOR, user_name

KEY = f"{OWNER}_{MODEL}"
USER = user_name(KEY, "0")
USERS_PER_MODEL = {"RUNNER_REDIS_URL": ""}
HOLD = "tests.inference-server.dev/hold"


@pytest.fixture(autouse=True)
def _no_users(redis_client: redis.Redis) -> Iterator[None]:
    yield
    for user in set(_users(redis_client)) - {"default"}:
        redis_client.acl_deluser(user)


def _users(client: redis.Redis) -> list[str]:
    found: list[str] = client.acl_users()
    return found


def _secret_url(house: House) -> str:
    """Empty if there is no Secret."""
    try:
        secret = house.core.read_namespaced_secret(CHILD, house.namespace)
    except ApiException as error:
        if error.status != 404:
            raise
        return ""
    return base64.b64decode(secret.data["REDIS_URL"]).decode()


def _works(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return client.hgetall(f"{KEY}:cancel") == {}
        except (redis.AuthenticationError, redis.ConnectionError):
            return False  # Connections that were made with an earlier password are ended.


def test_a_secret_is_made_once_and_holds_over_a_restart(house: House) -> None:
    house.start(**USERS_PER_MODEL)
    house.make(minReplicas=1)
    house.until(house.pods, 30)
    url, deployment = _secret_url(house), house.deployment()
    parts = urlsplit(url)
    assert unquote(parts.username or "") == USER
    assert parts.password
    assert deployment is not None
    assert parts.password not in json.dumps([deployment, house.model(), house.logs()])
    assert _works(url)
    with redis.Redis.from_url(url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.hgetall("alice_other:cancel")
    version = house.core.read_namespaced_secret(CHILD, house.namespace).metadata.resource_version
    assert house.stop() == 0
    house.start(**USERS_PER_MODEL)
    house.until(lambda: house.metric("inference_operator_reconciles_total") >= 3, 30)
    secret = house.core.read_namespaced_secret(CHILD, house.namespace)
    assert secret.metadata.resource_version == version
    assert (house.deployment() or {})["spec"] == deployment["spec"]
    assert _works(url)


def test_a_lost_secret_comes_back_as_it_was(house: House) -> None:
    house.start(**USERS_PER_MODEL)
    house.make()
    house.until_reason("ScaledToZero")
    url = _secret_url(house)
    house.core.delete_namespaced_secret(CHILD, house.namespace)
    assert house.until(lambda: _secret_url(house)) == url


def test_a_password_of_an_administrator_is_taken(house: House) -> None:
    house.start(**USERS_PER_MODEL)
    house.make()
    house.until_reason("ScaledToZero")
    pod = (house.deployment() or {})["spec"]["template"]
    url = _secret_url(house)
    changed = url.replace(urlsplit(url).password or "", "p" * 40)
    data = {"REDIS_URL": base64.b64encode(changed.encode()).decode()}
    house.core.patch_namespaced_secret(CHILD, house.namespace, {"data": data})
    house.until(lambda: _works(changed))
    house.until(lambda: (house.deployment() or {})["spec"]["template"] != pod)
    assert not _works(url)


def test_users_that_redis_lost_come_back(house: House, redis_client: redis.Redis) -> None:
    house.start(**USERS_PER_MODEL)
    house.make()
    house.until_reason("ScaledToZero")
    redis_client.acl_deluser(USER)
    house.until(lambda: _works(_secret_url(house)))


def test_a_user_goes_after_the_last_pod(house: House, redis_client: redis.Redis) -> None:
    house.start(RESYNC_SECONDS="3600", **USERS_PER_MODEL)
    house.make(minReplicas=1)
    [pod] = house.until(house.pods, 30)
    place = pod.metadata.name, house.namespace
    house.core.patch_namespaced_pod(*place, {"metadata": {"finalizers": [HOLD]}})
    house.delete()
    house.until(lambda: house.pods()[0].metadata.deletion_timestamp, 30)
    house.until(lambda: house.deployment() is None, 30)
    assert USER in _users(redis_client)
    house.core.patch_namespaced_pod(*place, {"metadata": {"finalizers": None}})
    house.until(lambda: USER not in _users(redis_client), 30)


def test_a_user_of_a_model_that_went_unseen_goes_too(
    house: House, redis_client: redis.Redis
) -> None:
    house.start(**USERS_PER_MODEL)
    house.make()
    house.until_reason("ScaledToZero")
    house.stop()
    house.delete()
    assert USER in _users(redis_client)
    house.start(**USERS_PER_MODEL)
    house.until(lambda: USER not in _users(redis_client))


def test_a_redis_that_refuses_users_starts_nothing(house: House, redis_client: redis.Redis) -> None:
    rules = ("reset", "on", ">secret", "~*", "+@all", "-@dangerous")
    redis_client.execute_command("ACL", "SETUSER", "op", *rules)
    url = house.redis_url.replace("unix://", "unix://op:secret@")
    house.start(REDIS_URL=url, **USERS_PER_MODEL)
    house.make(minReplicas=1)
    message = house.until_reason("RedisUnavailable")
    assert "ACL SETUSER op +acl|setuser" in message
    assert "RUNNER_REDIS_URL" in message
    assert house.deployment() is None
    house.until(lambda: "RedisUnavailable" in [reason for reason, _ in house.events()])
    redis_client.execute_command("ACL", "SETUSER", "op", *RIGHTS_OF_OPERATOR.split())
    house.until(house.pods, 60)
    assert _works(_secret_url(house))


def test_a_redis_that_is_away_starts_nothing(house: House) -> None:
    house.start(REDIS_URL="redis://127.0.0.1:1", **USERS_PER_MODEL)
    house.make(minReplicas=1)
    message = house.until_reason("RedisUnavailable")
    assert message.startswith("Redis does not answer (")
    assert house.deployment() is None


class TcpValkey:
    """One that pods reach, with a password, and without a file for its users."""

    def __init__(self, address: str, folder: Path, wait_until: Callable[..., Any]) -> None:
        with socket.create_server((address, 0)) as free:
            self._port = free.getsockname()[1]
        self._address, self._folder, self._wait_until = address, folder, wait_until
        self.url = f"redis://:secret@{address}:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ("--port", str(self._port), "--bind", self._address, "--requirepass", "secret")
        argv = [*valkey.command(self._folder, self._folder), *options]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        self._wait_until(self._answers)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False


@pytest.fixture
def tcp_valkey(house: House, tmp_path: Path, wait_until: Callable[..., Any]) -> Iterator[TcpValkey]:
    """On the address of the cluster's only node, which is this machine."""
    [node] = house.core.list_node().items
    address = next(a.address for a in node.status.addresses if a.type == "InternalIP")
    try:
        server = TcpValkey(address, tmp_path, wait_until)
    except OSError:
        pytest.skip(f"this machine is not the cluster's node {address}")
    server.start()
    yield server
    server.stop()


def test_a_real_runner_works_as_its_user_and_outlasts_a_restart(
    house: House, tcp_valkey: TcpValkey, runner_image: str, echo_volume: str
) -> None:
    house.start(REDIS_URL=tcp_valkey.url, RUNNER_IMAGE=runner_image, **USERS_PER_MODEL)
    house.make(
        type="custom",
        source={"pvc": {"claimName": echo_volume}},
        engine={"className": "echo:Echo"},
        minReplicas=1,
    )
    house.until_reason("Ready", 120)
    client = redis.Redis.from_url(tcp_valkey.url)

    def predict(id: str) -> None:
        job = Job(id=id, attempt=1, token="t", input={"text": id}, notify=[], crashes=0)
        JobQueue(client).enqueue(f"{OWNER}/{MODEL}", [job])
        house.until(lambda: any(_has_end(entry, id) for entry in _events(client)), 30)

    predict("first")
    [pod] = house.pods()
    workers = client.smembers(f"rq:workers:{KEY}")
    assert workers == {f"rq:worker:{queues.worker_name(KEY, pod.metadata.name)}".encode()}
    tcp_valkey.stop()
    tcp_valkey.start()
    predict("second")
    assert client.acl_log() == [] or {e["reason"] for e in client.acl_log()} == {"auth"}
    [same] = house.pods()
    assert same.metadata.uid == pod.metadata.uid
    assert same.status.container_statuses[0].restart_count == 0
    client.close()


def _events(client: redis.Redis) -> list[bytes]:
    found: Any = client.xrange(queues.events_key(KEY))
    return [fields[b"d"] for _, fields in found]


def _has_end(entry: bytes, id: str) -> bool:
    return any(e["id"] == id and e["type"] == "succeeded" for e in json.loads(entry))


def test_a_model_that_fills_redis_is_told_so(house: House, redis_client: redis.Redis) -> None:
    house.start(RUNNER_REDIS_BYTES="2000000", RESYNC_SECONDS="3600", **USERS_PER_MODEL)
    house.make()
    house.until_reason("ScaledToZero")
    url = _secret_url(house)
    with redis.Redis.from_url(url) as client, client.pipeline() as pipe:
        for _ in range(3):  # All at once: its rights end as soon as it is seen.
            pipe.xadd(f"{KEY}:events", {"d": b"x" * 1_000_000})
        with suppress(redis.RedisError):  # They may end before it is answered.
            pipe.execute()
    message = house.until_reason("RedisBudgetExceeded")
    assert "3 MiB in Redis, and may have 2 MiB" in message
    assert not _works(url)
    assert not redis_client.exists(f"{KEY}:events")
    house.change(description="corrected")
    house.until(lambda: _works(url))
    house.until_reason("ScaledToZero")


def test_a_deleted_user_is_back_in_seconds(house: House, redis_client: redis.Redis) -> None:
    house.start(RESYNC_SECONDS="3600", **USERS_PER_MODEL)
    house.make()
    house.until_reason("ScaledToZero")
    redis_client.acl_deluser(USER)
    house.until(lambda: _works(_secret_url(house)), 10)
