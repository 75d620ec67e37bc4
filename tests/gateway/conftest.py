"""A whole gateway on a database and a Redis of the test's own.

`client` speaks to the app in process (answers come whole: use `live_url` for streams). Both run
the app's start and stop. `user_token("ada")` makes an account and returns its access token.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import httpx
import psycopg2
import pytest
import uvicorn
from documented import Documented
from fastapi import FastAPI

from inference_contract.inferencemodel import InferenceModel
from inference_gateway.api.app import create_app
from inference_gateway.auth.jwt import AccessTokens
from inference_gateway.models.files.store import YamlModelStore
from inference_gateway.settings import GatewaySettings

SECRET = "a-secret-of-the-tests-with-more-than-32-bytes"


class UserToken(Protocol):
    def __call__(self, name: str, *, admin: bool = False) -> str: ...


class MakeModel(Protocol):
    def __call__(self, owner: str, name: str, **spec: Any) -> InferenceModel: ...


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def settings(database_url: str, redis_url: str, home: Path) -> GatewaySettings:
    return GatewaySettings(
        _env_file=None,
        database_url=database_url,
        redis_url=redis_url,
        secret_key=SECRET,
        inference_home=home,
        api_host="127.0.0.1",
        api_port=0,
    )


@pytest.fixture
def app(settings: GatewaySettings) -> FastAPI:
    """Not started yet: `client` and `live_url` start it."""
    return create_app(settings)


@pytest.fixture
def documented(app: FastAPI) -> Iterator[Documented]:
    """The app for callers; afterwards, every answer must be in its OpenAPI document."""
    made = Documented(app)
    yield made
    assert made.faults == []


@pytest.fixture
async def client(app: FastAPI, documented: Documented) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(documented)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        yield client


@pytest.fixture
def live_server(documented: Documented) -> uvicorn.Server:
    config = uvicorn.Config(
        documented,
        host="127.0.0.1",
        port=0,
        log_config=None,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


@pytest.fixture
def live_url(live_server: uvicorn.Server, wait_until: Callable[..., Any]) -> Iterator[str]:
    """The app behind a real uvicorn on a thread."""
    server, config = live_server, live_server.config
    listener = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture
def user_token(settings: GatewaySettings) -> UserToken:
    """Makes an account without a password, once per name, and returns an access token of it.

    Its id is the MD5 of its name, so that a test may store what it owns.
    """
    tokens = AccessTokens(SECRET, minutes=15)

    def make(name: str, *, admin: bool = False) -> str:
        with closing(psycopg2.connect(settings.database_url)) as connection, connection as session:
            cursor = session.cursor()
            cursor.execute(
                "INSERT INTO users (id, username, email, password_hash, is_admin,"
                " webhook_secret) VALUES (md5(%s)::uuid, %s, %s, '!', %s,"
                " 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')"
                " ON CONFLICT (username) DO UPDATE SET is_admin = excluded.is_admin RETURNING id",
                (name, name, f"{name}@example.com", admin),
            )
            row = cursor.fetchone()
        assert row is not None
        return tokens.issue(str(row[0]), name)

    return make


@pytest.fixture
def auth(user_token: UserToken) -> Callable[..., dict[str, str]]:
    """`headers=auth("ada")`."""

    def headers(name: str, *, admin: bool = False) -> dict[str, str]:
        return {"Authorization": f"Bearer {user_token(name, admin=admin)}"}

    return headers


@pytest.fixture
def make_model(app: FastAPI, home: Path) -> MakeModel:
    """Writes a document as a person would, and lets a running app see it at once.

    Keyword arguments are fields of the spec, in snake case or camelCase.
    """

    def make(owner: str, name: str, **spec: Any) -> InferenceModel:
        fields = {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}, **spec}
        model = InferenceModel.model_validate(
            {"metadata": {"name": name, "namespace": owner}, "spec": fields}
        )
        YamlModelStore(home).create(model)
        if (services := getattr(app.state, "services", None)) is not None:
            services.catalog.refresh()
        return model

    return make


@pytest.fixture
def sql(settings: GatewaySettings) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    """Runs a statement; the rows, if it gives some."""
    with closing(psycopg2.connect(settings.database_url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()

        def run(statement: str) -> list[tuple[Any, ...]]:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

        yield run
