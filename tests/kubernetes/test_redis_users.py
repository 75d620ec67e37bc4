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
from cluster_operator import CHILD, MODEL, OWNER, ClusterOperator
from kubernetes.client.exceptions import ApiException
from narrow import decoded, there

from inference_contract import queues
from inference_contract.predictions import Job
from inference_gateway.lifecycle.job_queue import JobQueue
from inference_local import valkey
from inference_operator.redis.acl import RIGHTS_OF_OPERATOR, user_name

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
    return [decoded(user) for user in client.acl_users()]


def _secret_url(operator: ClusterOperator) -> str:
    """Empty if there is no Secret."""
    try:
        secret = operator.core.read_namespaced_secret(CHILD, operator.namespace)
    except ApiException as error:
        if error.status != 404:
            raise
        return ""
    return base64.b64decode(there(secret.data)["REDIS_URL"]).decode()


def _works(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.hgetall(f"{KEY}:cancel") == {})
        except (redis.AuthenticationError, redis.ConnectionError):
            return False  # Connections that were made with an earlier password are ended.


def test_a_secret_is_made_once_and_holds_over_a_restart(operator: ClusterOperator) -> None:
    operator.start(**USERS_PER_MODEL)
    operator.make(minReplicas=1)
    operator.until(operator.pods, 30)
    url, deployment = _secret_url(operator), operator.deployment()
    parts = urlsplit(url)
    assert unquote(parts.username or "") == USER
    assert parts.password
    assert deployment is not None
    assert parts.password not in json.dumps([deployment, operator.model(), operator.logs()])
    assert _works(url)
    with redis.Redis.from_url(url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.hgetall("alice_other:cancel")
    secret = operator.core.read_namespaced_secret(CHILD, operator.namespace)
    version = there(secret.metadata).resource_version
    assert operator.stop() == 0
    operator.start(**USERS_PER_MODEL)
    operator.until(lambda: operator.metric("inference_operator_reconciles_total") >= 3, 30)
    secret = operator.core.read_namespaced_secret(CHILD, operator.namespace)
    assert there(secret.metadata).resource_version == version
    assert (operator.deployment() or {})["spec"] == deployment["spec"]
    assert _works(url)


def test_a_lost_secret_comes_back_as_it_was(operator: ClusterOperator) -> None:
    operator.start(**USERS_PER_MODEL)
    operator.make()
    operator.until_reason("ScaledToZero")
    url = _secret_url(operator)
    operator.core.delete_namespaced_secret(CHILD, operator.namespace)
    assert operator.until(lambda: _secret_url(operator)) == url


def test_a_password_of_an_administrator_is_taken(operator: ClusterOperator) -> None:
    operator.start(**USERS_PER_MODEL)
    operator.make()
    operator.until_reason("ScaledToZero")
    pod = (operator.deployment() or {})["spec"]["template"]
    url = _secret_url(operator)
    changed = url.replace(urlsplit(url).password or "", "p" * 40)
    data = {"REDIS_URL": base64.b64encode(changed.encode()).decode()}
    operator.core.patch_namespaced_secret(CHILD, operator.namespace, {"data": data})
    operator.until(lambda: _works(changed))
    operator.until(lambda: (operator.deployment() or {})["spec"]["template"] != pod)
    assert not _works(url)


def test_users_that_redis_lost_come_back(
    operator: ClusterOperator, redis_client: redis.Redis
) -> None:
    operator.start(**USERS_PER_MODEL)
    operator.make()
    operator.until_reason("ScaledToZero")
    redis_client.acl_deluser(USER)
    operator.until(lambda: _works(_secret_url(operator)))


def test_a_user_goes_after_the_last_pod(
    operator: ClusterOperator, redis_client: redis.Redis
) -> None:
    operator.start(RESYNC_SECONDS="3600", **USERS_PER_MODEL)
    operator.make(minReplicas=1)
    [pod] = operator.until(operator.pods, 30)
    place = pod.metadata.name, operator.namespace
    operator.core.patch_namespaced_pod(*place, {"metadata": {"finalizers": [HOLD]}})
    operator.delete()
    operator.until(lambda: operator.pods()[0].metadata.deletion_timestamp, 30)
    operator.until(lambda: operator.deployment() is None, 30)
    assert USER in _users(redis_client)
    operator.core.patch_namespaced_pod(*place, {"metadata": {"finalizers": None}})
    operator.until(lambda: USER not in _users(redis_client), 30)


def test_a_user_of_a_model_that_went_unseen_goes_too(
    operator: ClusterOperator, redis_client: redis.Redis
) -> None:
    operator.start(**USERS_PER_MODEL)
    operator.make()
    operator.until_reason("ScaledToZero")
    operator.stop()
    operator.delete()
    assert USER in _users(redis_client)
    operator.start(**USERS_PER_MODEL)
    operator.until(lambda: USER not in _users(redis_client))


def test_a_redis_that_refuses_users_starts_nothing(
    operator: ClusterOperator, redis_client: redis.Redis
) -> None:
    rules = ("reset", "on", ">secret", "~*", "+@all", "-@dangerous")
    redis_client.execute_command("ACL", "SETUSER", "op", *rules)
    url = operator.redis_url.replace("unix://", "unix://op:secret@")
    operator.start(REDIS_URL=url, **USERS_PER_MODEL)
    operator.make(minReplicas=1)
    message = operator.until_reason("RedisUnavailable")
    assert "ACL SETUSER op +acl|setuser" in message
    assert "RUNNER_REDIS_URL" in message
    assert operator.deployment() is None
    operator.until(lambda: "RedisUnavailable" in [reason for reason, _ in operator.events()])
    redis_client.execute_command("ACL", "SETUSER", "op", *RIGHTS_OF_OPERATOR.split())
    operator.until(operator.pods, 60)
    assert _works(_secret_url(operator))


def test_a_redis_that_is_away_starts_nothing(operator: ClusterOperator) -> None:
    operator.start(REDIS_URL="redis://127.0.0.1:1", **USERS_PER_MODEL)
    operator.make(minReplicas=1)
    message = operator.until_reason("RedisUnavailable")
    assert message.startswith("Redis does not answer (")
    assert operator.deployment() is None


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
def tcp_valkey(
    operator: ClusterOperator, tmp_path: Path, wait_until: Callable[..., Any]
) -> Iterator[TcpValkey]:
    """On the address of the cluster's only node, which is this machine."""
    [node] = operator.core.list_node().items
    addresses = there(there(node.status).addresses)
    address = next(a.address for a in addresses if a.type == "InternalIP")
    try:
        server = TcpValkey(address, tmp_path, wait_until)
    except OSError:
        pytest.skip(f"this machine is not the cluster's node {address}")
    server.start()
    yield server
    server.stop()


def test_a_real_runner_works_as_its_user_and_outlasts_a_restart(
    operator: ClusterOperator, tcp_valkey: TcpValkey, runner_image: str, echo_volume: str
) -> None:
    operator.start(REDIS_URL=tcp_valkey.url, RUNNER_IMAGE=runner_image, **USERS_PER_MODEL)
    operator.make(
        type="custom",
        source={"pvc": {"claimName": echo_volume}},
        engine={"className": "echo:Echo"},
        minReplicas=1,
    )
    operator.until_reason("Ready", 120)
    client = redis.Redis.from_url(tcp_valkey.url)

    def predict(id: str) -> None:
        job = Job(id=id, attempt=1, token="t", input={"text": id}, notify=[], crashes=0)
        JobQueue(client).enqueue(f"{OWNER}/{MODEL}", [job])
        operator.until(lambda: any(_has_end(entry, id) for entry in _events(client)), 30)

    predict("first")
    [pod] = operator.pods()
    workers = client.smembers(f"rq:workers:{KEY}")
    assert workers == {f"rq:worker:{queues.worker_name(KEY, pod.metadata.name)}".encode()}
    tcp_valkey.stop()
    tcp_valkey.start()
    predict("second")
    assert client.acl_log() == [] or {e["reason"] for e in client.acl_log()} == {"auth"}
    [same] = operator.pods()
    assert same.metadata.uid == pod.metadata.uid
    assert same.status.container_statuses[0].restart_count == 0
    client.close()


def _events(client: redis.Redis) -> list[bytes]:
    found: Any = client.xrange(queues.events_key(KEY))
    return [fields[b"d"] for _, fields in found]


def _has_end(entry: bytes, id: str) -> bool:
    return any(e["id"] == id and e["type"] == "succeeded" for e in json.loads(entry))


def test_a_model_that_fills_redis_is_told_so(
    operator: ClusterOperator, redis_client: redis.Redis
) -> None:
    operator.start(RUNNER_REDIS_BYTES="2000000", RESYNC_SECONDS="3600", **USERS_PER_MODEL)
    operator.make()
    operator.until_reason("ScaledToZero")
    url = _secret_url(operator)
    with redis.Redis.from_url(url) as client, client.pipeline() as pipe:
        for _ in range(3):  # All at once: its rights end as soon as it is seen.
            pipe.xadd(f"{KEY}:events", {"d": b"x" * 1_000_000})
        with suppress(redis.RedisError):  # They may end before it is answered.
            pipe.execute()
    message = operator.until_reason("RedisBudgetExceeded")
    assert "3 MiB in Redis, and may have 2 MiB" in message
    assert not _works(url)
    assert not redis_client.exists(f"{KEY}:events")
    operator.change(description="corrected")
    operator.until(lambda: _works(url))
    operator.until_reason("ScaledToZero")


def test_a_deleted_user_is_back_in_seconds(
    operator: ClusterOperator, redis_client: redis.Redis
) -> None:
    operator.start(RESYNC_SECONDS="3600", **USERS_PER_MODEL)
    operator.make()
    operator.until_reason("ScaledToZero")
    redis_client.acl_deluser(USER)
    operator.until(lambda: _works(_secret_url(operator)), 10)
