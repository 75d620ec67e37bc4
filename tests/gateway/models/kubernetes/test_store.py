"""What the Kubernetes store decides without a cluster; tests/kubernetes has the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stub_api
from curt_server import server_that_says
from kubernetes.client.configuration import Configuration

from inference_contract.inferencemodel import InferenceModel
from inference_contract.pods import LABEL_OWNER, LABEL_OWNER_ID
from inference_gateway.api.app import model_store
from inference_gateway.errors import Conflict, Invalid, Unconfirmed
from inference_gateway.health_state import HealthState
from inference_gateway.models.catalog import ModelCatalog
from inference_gateway.models.files.store import YamlModelStore
from inference_gateway.models.kubernetes import namespaces
from inference_gateway.models.kubernetes.api import (
    KubernetesApi,
    KubernetesRefused,
    Unanswered,
    Unreachable,
)
from inference_gateway.models.kubernetes.cache import ObjectCache
from inference_gateway.models.kubernetes.documents import entry, homes, manifest, may_hold
from inference_gateway.models.kubernetes.errors import store_error
from inference_gateway.models.kubernetes.store import REFUSED, _collection, open_store
from inference_gateway.models.store import (
    InvalidDocument,
    ModelExists,
    ModelMissing,
    ModelRefused,
    NamespaceRefused,
    StoreError,
    StoreUnavailable,
    StoreUnconfirmed,
)
from inference_gateway.settings import GatewaySettings
from inference_gateway.startup import ConfigurationError


def namespace(name: str, owner: str, age: int = 0, **metadata: Any) -> dict[str, Any]:
    created = f"2026-01-{28 - age:02}T00:00:00Z"
    labels = {LABEL_OWNER: owner}
    found = {"name": name, "labels": labels, "creationTimestamp": created, **metadata}
    return {"metadata": found}


def resource(version: str = "1", *, name: str = "echo", **parts: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "team-a",
        "uid": f"uid-{name}",
        "resourceVersion": version,
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{}],
    }
    spec = {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}}
    kind = {"apiVersion": "inference-server.dev/v1alpha1", "kind": "InferenceModel"}
    return {**kind, "metadata": metadata, "spec": spec, **parts}


def test_the_older_namespace_keeps_its_owner() -> None:
    found = homes([namespace("b", "ada", age=1), namespace("a", "ada", age=9)])
    assert (found.of, found.rivals) == ({"ada": "a"}, {"b": "ada"})


@pytest.mark.parametrize(
    "found",
    [
        namespace("a", "Not_A-name."),
        namespace("a", ""),
        namespace("a", "ada", deletionTimestamp="2026-01-02T00:00:00Z"),
        {"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}},
    ],
)
def test_a_namespace_that_is_nobodys(found: dict[str, Any]) -> None:
    assert homes([found]) == homes([])


def test_the_namespace_of_an_owner_says_whose_account_it_is() -> None:
    marked = namespace("b", "bob")
    marked["metadata"]["labels"][LABEL_OWNER_ID] = "1"
    assert homes([namespace("a", "ada"), marked]).ids == {"bob": "1"}


def test_the_namespace_becomes_the_owner_and_back() -> None:
    model = entry(resource(), "ada", None)
    assert isinstance(model, InferenceModel)
    assert model.id == "ada/echo"
    assert manifest(model, "team-a")["metadata"] == {"name": "echo", "namespace": "team-a"}


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"type": "poetry", "source": {"hub": {"repo": "gpt2"}}}, "spec.type: "),
        ({"type": "classification", "source": {}}, "spec.source: set exactly one"),
    ],
)
def test_a_resource_that_is_no_model_names_the_field(spec: dict[str, Any], error: str) -> None:
    found = entry(resource(spec=spec), "ada", None)
    assert isinstance(found, InvalidDocument)
    assert (found.id, found.error[: len(error)]) == ("ada/echo", error)


def test_a_status_of_another_version_is_left_out() -> None:
    model = entry(resource(status={"replicas": "many"}), "ada", None)
    assert isinstance(model, InferenceModel)
    assert model.status.replicas == 0


def event(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": found}


def versions(cache: ObjectCache) -> list[str]:
    return [found["metadata"]["resourceVersion"] for found in cache.all()]


@pytest.mark.parametrize(
    ("holding", "last_home", "sees_all", "expected"),
    [
        ({"ada-1"}, None, True, True),
        ({"ada-2"}, None, True, True),
        ({"bob-1"}, None, True, False),
        ({"nobodys"}, None, True, False),
        (set(), None, False, False),
    ],
)
def test_whether_the_model_of_an_owner_with_a_namespace_may_be_there(
    holding: set[str], last_home: str | None, sees_all: bool, expected: bool
) -> None:
    found = homes([namespace("ada-1", "ada", 9), namespace("ada-2", "ada"), namespace("b", "bob")])
    assert may_hold("ada", holding, found, last_home, sees_all=sees_all) is expected


@pytest.mark.parametrize(
    ("holding", "last_home", "sees_all", "expected"),
    [
        (set(), None, True, False),
        ({"b"}, None, True, False),
        ({"b", "nobodys"}, None, True, True),
        ({"nobodys"}, "nobodys", True, True),
        ({"b"}, "b", True, True),
        ({"b"}, "gone", True, False),
        (set(), "gone", False, False),
        (set(), None, False, True),
    ],
)
def test_whether_the_model_of_an_owner_without_a_namespace_may_be_there(
    holding: set[str], last_home: str | None, sees_all: bool, expected: bool
) -> None:
    """The label may be back in a moment; the namespaces that are not watched are unknown."""
    found = homes([namespace("b", "bob")])
    assert may_hold("ada", holding, found, last_home, sees_all=sees_all) is expected


def test_an_event_that_comes_late_changes_nothing() -> None:
    cache = ObjectCache()
    cache.put(resource("12"))
    changes = cache.changes
    cache.apply(event("MODIFIED", resource("9")))
    cache.apply(event("MODIFIED", resource("12")))
    assert (versions(cache), cache.changes) == (["12"], changes)
    cache.apply(event("MODIFIED", resource("100")))
    assert versions(cache) == ["100"]


def test_what_was_deleted_stays_so() -> None:
    cache = ObjectCache()
    cache.put(resource("1"))
    cache.delete("team-a", "echo")
    cache.apply(event("MODIFIED", resource("2")))
    cache.replace([resource("2")], "2")
    assert versions(cache) == []
    cache.apply(event("DELETED", resource("3")))
    cache.put(resource("4"))
    assert versions(cache) == ["4"]


def test_a_list_does_not_undo_a_later_write() -> None:
    cache = ObjectCache()
    cache.put(resource("5", name="old"))
    cache.put(resource("20", name="written"))
    cache.replace([resource("9", name="listed")], "10")
    assert sorted(versions(cache)) == ["20", "9"]


def test_managed_fields_are_not_kept() -> None:
    cache = ObjectCache()
    cache.put(resource())
    assert "managedFields" not in cache.all()[0]["metadata"]


def status(code: int, reason: str = "", message: str = "", **details: Any) -> KubernetesRefused:
    return KubernetesRefused(code, {"reason": reason, "message": message, "details": details})


RBAC = 'inferencemodels is forbidden: User "system:x" cannot create resource "inferencemodels"'
TERMINATING = [{"reason": "NamespaceTerminating", "message": "x", "field": "metadata.namespace"}]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (Unreachable("host 10.0.0.1 refused"), StoreUnavailable, "Kubernetes does not answer"),
        (status(409, "AlreadyExists"), ModelExists, "ada/echo"),
        (status(404, "NotFound", kind="inferencemodels"), ModelMissing, "ada/echo"),
        (status(404), StoreUnavailable, "install the CustomResourceDefinition"),
        (status(404, "NotFound", kind="namespaces"), StoreUnavailable, "is being deleted"),
        (status(403, "Forbidden", RBAC), StoreUnavailable, "refuses this gateway (403)"),
        (status(403, "Forbidden", "x", causes=TERMINATING), StoreUnavailable, "is being deleted"),
        (status(403, "Forbidden", "exceeded quota: q"), ModelRefused, "exceeded quota: q"),
        (status(401, "Unauthorized"), StoreUnavailable, "refuses this gateway (401)"),
        (Unanswered("10.0.0.1 closed"), StoreUnconfirmed, "does not answer; whether this was done"),
        (status(500, "InternalError"), StoreUnconfirmed, "now (500 InternalError); whether this"),
        (status(504, "Timeout"), StoreUnconfirmed, "whether this was done is not known"),
        (status(429, "TooManyRequests"), StoreUnavailable, "try again"),
    ],
)
def test_what_the_api_server_refuses(error: Any, kind: type[StoreError], message: str) -> None:
    told = store_error(error, "ada/echo")
    assert type(told) is kind
    assert message in str(told)
    assert "10.0.0.1" not in str(told)
    assert "system:x" not in str(told)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('Invalid value: "object": minReplicas must not exceed', "minReplicas must not exceed"),
        ("Invalid value: 0: spec.x should be >= 1", "0: spec.x should be >= 1"),
        ('Unsupported value: "x": supported values: "y"', 'Unsupported value: "x": supported '),
    ],
)
def test_the_words_of_a_rule(said: str, message: str) -> None:
    told = store_error(status(422, "Invalid", causes=[{"field": "spec", "message": said}]), "a/b")
    assert isinstance(told, ModelRefused)
    assert str(told).startswith(f"spec: {message}")


class Refusing(YamlModelStore):
    def __init__(self, error: StoreError) -> None:
        super().__init__(Path("/nonexistent"))
        self._error = error

    def create(self, model: InferenceModel, owner_id: str | None = None) -> InferenceModel:
        raise self._error


def test_the_caller_is_told_the_field() -> None:
    model = entry(resource(), "ada", None)
    assert isinstance(model, InferenceModel)
    refused = ModelRefused([{"field": "spec.source", "message": "no"}])
    with pytest.raises(Invalid, match=r"^body\.spec\.source: no$") as told:
        ModelCatalog(Refusing(refused)).create(model)
    assert told.value.errors == [{"field": "body.spec.source", "message": "no"}]
    with pytest.raises(Conflict, match="do this"):
        ModelCatalog(Refusing(NamespaceRefused("do this"))).create(model)
    with pytest.raises(Unconfirmed, match="is not known"):
        ModelCatalog(Refusing(StoreUnconfirmed("Kubernetes does not answer"))).create(model)


HEAD = b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, Unreachable),
        (b"", Unanswered),
        (b"HTTP/1.1 201 Cre", Unanswered),
        (HEAD + b"{", Unanswered),
        (HEAD + b"<p>no</p>", Unanswered),
    ],
)
def test_what_was_sent_may_have_been_done(
    answer: bytes | None, expected: type[Unreachable]
) -> None:
    with server_that_says(answer) as url:
        configuration = Configuration(host=url)
        configuration.retries = False
        api = KubernetesApi(configuration)
        with pytest.raises(Unreachable) as told:
            api.create("/api/v1/namespaces", {})
        assert type(told.value) is expected
        api.close()


@pytest.mark.parametrize(
    ("owner", "owner_id", "reason"),
    [
        ("ada", "1", None),
        ("ada", None, None),
        ("ada", "2", "namespace x belongs to another account, which had the name ada"),
        ("bob", "1", "namespace x is there already and belongs to ada"),
    ],
)
def test_whose_a_namespace_is(owner: str, owner_id: str | None, reason: str | None) -> None:
    found = namespaces.manifest("x", "ada", "1", "restricted")
    assert found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespaces.refusal(found, owner, owner_id) == reason


@pytest.fixture
def cluster(settings: GatewaySettings, tmp_path: Path) -> GatewaySettings:
    """Settings of a gateway whose cluster does not answer."""
    kubeconfig = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "x"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(kubeconfig))
    return settings.model_copy(update={"inference_home": None, "kubeconfig": str(path)})


@pytest.mark.parametrize("content", [None, "", "a: [", "{}"])
def test_a_kubeconfig_that_is_none(cluster: GatewaySettings, content: str | None) -> None:
    path = Path(str(cluster.kubeconfig))
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"^KUBECONFIG leads to no") as refused:
        model_store(cluster)
    assert "\n" not in str(refused.value)


def test_one_machine_loads_no_client_of_kubernetes() -> None:
    """It would take 10 MiB of the gateway's memory."""
    program = "import sys, inference_gateway.__main__; sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def _refused() -> dict[str, float]:
    [metric] = REFUSED.collect()
    found = {sample.labels["name"]: sample.value for sample in metric.samples}
    return {name: found[name] for name in ("odd", "fine")}


def test_a_namespace_that_may_not_be_read_hides_no_other(
    settings: GatewaySettings, tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    names = ("fine", "odd")
    with stub_api.serve() as api:
        users = [{"name": "gateway", "user": {}}]
        cluster = {"name": "stub", "cluster": {"server": api.url}}
        contexts = [{"name": "stub", "context": {"cluster": "stub", "user": "gateway"}}]
        content = {"clusters": [cluster], "users": users, "contexts": contexts}
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps({**content, "current-context": "stub"}))
        for name in names:
            api.put(f"/api/v1/namespaces/{name}", namespace(name, f"of-{name}"))
            found = resource()
            found["metadata"] |= {"namespace": name, "uid": name}
            api.put(f"{_collection(name)}/echo", found)
        api.refusals["GET", "odd"] = (403, "may not list")
        watched = {"kubeconfig": str(path), "watch_namespaces": "odd,fine"}
        store = open_store(settings.model_copy(update={**watched, "inference_home": None}))
        store.start()
        try:
            assert list(store.list()) == ["of-fine/echo"]
            said = store.dependencies()["kubernetes"]
            assert said.status is HealthState.DEGRADED
            assert said.message.endswith(": the models of namespace odd are as they were last seen")
            assert _refused() == {"odd": 1.0, "fine": 0.0}
            assert not store.is_gone("of-odd/echo")
            api.refusals.clear()
            wait_until(lambda: set(store.list()) == {"of-fine/echo", "of-odd/echo"})
            assert _refused() == {"odd": 0.0, "fine": 0.0}
        finally:
            store.stop()
