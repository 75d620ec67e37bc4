"""What an API server, or somebody in its place, sends: one odd object hides no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes.client.configuration import Configuration

from inference_contract.pods import LABEL_OWNER
from inference_gateway.models.kubernetes.api import KubernetesApi
from inference_gateway.models.kubernetes.store import KubernetesModelStore
from inference_gateway.models.store import InvalidDocument
from inference_gateway.settings import GatewaySettings

SPEC = '{"type":"text-generation","source":{"hub":{"repo":"gpt2"}}%s}'
KIND = '"apiVersion":"inference-server.dev/v1alpha1","kind":"InferenceModel"'


def model(name: str, version: int = 5, spec: str = SPEC % "", more: str = "") -> str:
    metadata = (
        f'{{"name":"{name}","namespace":"team","uid":"{name}","resourceVersion":"{version}",'
        f'"generation":1,"creationTimestamp":"2026-01-01T00:00:00Z"}}'
    )
    return f'{{{KIND},"metadata":{metadata},"spec":{spec}{more}}}'


def deep(levels: int) -> str:
    schema = f'{{"x":{{"type":"string","default":{"[" * levels}{"]" * levels}}}}}'
    return model("deep", spec=SPEC % f',"inputSchema":{schema}')


SHAPELESS = [
    *("null", "1", '"x"', "[]", "{}", '{"metadata":null}', '{"metadata":[]}'),
    '{"metadata":{"name":"x","namespace":"team"}}',
    '{"metadata":{"name":7,"namespace":"team","uid":"u","resourceVersion":"5"}}',
    '{"metadata":{"name":"x","namespace":{},"uid":"u","resourceVersion":"5"}}',
]
NAMELESS = [
    model("odd", spec="[]"),
    model("odd", spec="null"),
    model("odd", more=',"status":"fine"'),
    model("odd", more=',"status":{"conditions":{}}'),
    '{"metadata":{"name":"odd","namespace":"team","uid":"u","resourceVersion":"5"}}',
    deep(70),
    deep(190),
    deep(1100),
    deep(9000),
]
NAMESPACES = [
    '{"metadata":{"name":"n1","uid":"n1","resourceVersion":"3","labels":null}}',
    '{"metadata":{"name":"n2","uid":"n2","resourceVersion":"3","labels":[]}}',
    f'{{"metadata":{{"name":"n3","uid":"n3","resourceVersion":"3","labels":{{"{LABEL_OWNER}":7}}}}}}',
    f'{{"metadata":{{"name":"n4","uid":"n4","resourceVersion":"3","labels":{{"{LABEL_OWNER}":"ada"}}}}}}',
]
TEAM = (
    '{"metadata":{"name":"team","uid":"team","resourceVersion":"3",'
    f'"creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"{LABEL_OWNER}":"ada"}}}}}}'
)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    models: list[str]
    namespaces: list[str]
    events: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        is_models = "inferencemodels" in self.path
        items = self.server.models if is_models else self.server.namespaces
        content = f'{{"items":[{",".join(items)}],"metadata":{{"resourceVersion":"9"}}}}'
        if "watch=true" in self.path:
            content = "".join(f"{event}\n" for event in self.server.events) if is_models else ""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), _Handler)
    server.models, server.namespaces, server.events = [], [TEAM], []
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(server: Server) -> Iterator[KubernetesModelStore]:
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_port}"
    configuration.retries = False
    settings = GatewaySettings(
        _env_file=None, database_url="postgresql:///none", secret_key="x" * 32
    )
    store = KubernetesModelStore(KubernetesApi(configuration), settings)
    yield store
    store.stop()


@pytest.mark.parametrize("odd", [*SHAPELESS, *NAMELESS])
def test_an_odd_object_in_a_list_hides_no_other(
    server: Server, store: KubernetesModelStore, odd: str
) -> None:
    server.models = [model("before"), odd, model("later")]
    store.start()
    listed = store.list()
    fine = {name for name, entry in listed.items() if not isinstance(entry, InvalidDocument)}
    assert fine >= {"ada/before", "ada/later"}
    assert "ada/deep" not in fine


@pytest.mark.parametrize("odd", [*SHAPELESS, *NAMELESS])
@pytest.mark.parametrize("type", ["ADDED", "MODIFIED", "DELETED"])
def test_an_odd_object_in_a_watch_hides_no_other(
    server: Server,
    store: KubernetesModelStore,
    odd: str,
    type: str,
    wait_until: Callable[..., Any],
) -> None:
    server.models = [model("before")]
    later = model("later", version=12)
    server.events = [f'{{"type":"{type}","object":{odd}}}', f'{{"type":"ADDED","object":{later}}}']
    store.start()
    wait_until(lambda: {"ada/before", "ada/later"} <= store.list().keys(), timeout=5)


def test_odd_namespaces_take_no_owners_away(server: Server, store: KubernetesModelStore) -> None:
    server.namespaces = [*NAMESPACES, TEAM]
    server.models = [model("echo")]
    store.start()
    assert store.list().keys() == {"ada/echo"}
    assert not isinstance(store.list()["ada/echo"], InvalidDocument)


def test_what_is_nested_too_deep_is_there_and_says_so(
    server: Server, store: KubernetesModelStore
) -> None:
    server.models = [deep(9000)]
    store.start()
    entry = store.list()["ada/deep"]
    assert isinstance(entry, InvalidDocument)
    assert "inputSchema.x.default is nested more than 64 deep" in entry.error
