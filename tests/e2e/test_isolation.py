"""What a runner, whose code is a stranger's, can reach: Redis, and nothing else of ours."""

from __future__ import annotations

import subprocess

import pytest
from release import Account, Release, items, kubectl

from inference_contract.queues import model_key

_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"

_READ = (
    "import os, sys, redis\n"
    "client = redis.Redis.from_url(os.environ['REDIS_URL'])\n"
    "print(client.execute_command(*sys.argv[1:]))"
)


def _address(namespace: str, *select: str) -> tuple[str, int]:
    [service] = items("services", "-n", namespace, *select)
    return service["spec"]["clusterIP"], service["spec"]["ports"][0]["port"]


@pytest.fixture(scope="module", params=["postgresql", "api-server", "api-server-itself"])
def forbidden(request: pytest.FixtureRequest, release: Release) -> tuple[str, int]:
    """Address and port of a server of ours that a runner has no business with."""
    if request.param == "postgresql":
        return _address(release.name, *release.select("postgresql"))
    if request.param == "api-server":
        return _address("default", "--field-selector", "metadata.name=kubernetes")
    select = ("-l", "kubernetes.io/service-name=kubernetes")
    [endpoints] = items("endpointslices", "-n", "default", *select)
    return endpoints["endpoints"][0]["addresses"][0], endpoints["ports"][0]["port"]


def _reaches(namespace: str, pod: str, address: tuple[str, int]) -> bool:
    """Whether the pod gets a connection."""
    argv = ["kubectl", "-n", namespace, "exec", pod, "--", "python", "-c", _CONNECT]
    done = subprocess.run(
        [*argv, address[0], str(address[1])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or "timed out" in done.stderr or "refused" in done.stderr, done
    return done.returncode == 0


def _runner(account: Account) -> tuple[str, str]:
    return account.namespace, account.pods("echo")[0]["metadata"]["name"]


def test_a_runner_does_not_reach(
    release: Release, account: Account, echo: str, forbidden: tuple[str, int]
) -> None:
    """Though the gateway does."""
    [gateway] = release.pods("gateway")
    assert _reaches(release.name, gateway["metadata"]["name"], forbidden)
    assert not _reaches(*_runner(account), forbidden)


def test_a_runner_reaches_redis(release: Release, account: Account, echo: str) -> None:
    assert _reaches(*_runner(account), _address(release.name, *release.select("valkey")))


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("HGETALL {own}:cancel", True),
        ("HGETALL {other}:cancel", False),
        ("LPOP rq:queue:{other}", False),
        ("XADD {other}:events * d []", False),
        ("KEYS *", False),
        ("CONFIG GET dir", False),
    ],
)
def test_a_runner_may_use_its_own_keys_alone(
    account: Account, echo: str, command: str, allowed: bool
) -> None:
    """By its Redis user, whatever the network lets through."""
    own = model_key(echo)
    words = command.format(own=own, other=model_key(f"{account.name}/other")).split()
    namespace, pod = _runner(account)
    argv = ["kubectl", "-n", namespace, "exec", pod, "--", "python", "-c", _READ, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is allowed, done
    assert allowed or "No permissions" in done.stderr or "no permissions" in done.stderr, done


def test_a_runner_has_no_account_at_the_api_server(account: Account, echo: str) -> None:
    namespace, pod = _runner(account)
    listing = kubectl("-n", namespace, "exec", pod, "--", "sh", "-c", "ls /var/run/secrets || true")
    assert "kubernetes.io" not in listing
