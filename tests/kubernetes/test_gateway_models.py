"""The gateway's models in a real cluster: what it writes there, and what it sees of it."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import kubernetes.client
import pytest
from kubernetes.client import (
    AuthenticationV1TokenRequest,
    RbacV1Subject,
    V1ClusterRoleBinding,
    V1Namespace,
    V1ObjectMeta,
    V1PersistentVolumeClaim,
    V1PersistentVolumeClaimSpec,
    V1RoleRef,
    V1TokenRequestSpec,
    V1VolumeResourceRequirements,
)
from kubernetes.client.exceptions import ApiException
from narrow import there

from inference_contract.inferencemodel import GROUP, PLURAL, VERSION, InferenceModel
from inference_contract.pods import LABEL_OWNER, LABEL_OWNER_ID
from inference_gateway.models.kubernetes import api as kubernetes_api
from inference_gateway.models.kubernetes.store import KubernetesModelStore
from inference_gateway.models.store import (
    InvalidDocument,
    ModelExists,
    ModelMissing,
    ModelRefused,
    NamespaceRefused,
    StoreUnavailable,
)
from inference_gateway.settings import GatewaySettings

WaitUntil = Callable[..., Any]
OpenStore = Callable[..., KubernetesModelStore]


@pytest.fixture
def owner() -> str:
    """Of this test alone."""
    return f"ada-{secrets.token_hex(4)}"


@pytest.fixture
def open_store(prefix: str) -> Iterator[OpenStore]:
    """A started store; keyword arguments are settings, `host` another address of the API server,
    and `token` that of another account than the administrator's."""
    opened: list[KubernetesModelStore] = []

    def make(
        host: str | None = None, token: str | None = None, **changes: Any
    ) -> KubernetesModelStore:
        settings = GatewaySettings(
            _env_file=None,
            database_url="postgresql:///none",
            secret_key="x" * 32,
            owner_namespace_prefix=prefix,
            **changes,
        )
        configuration = kubernetes_api.configuration(os.environ["KUBECONFIG"])
        configuration.host = host or configuration.host
        if token is not None:
            configuration.cert_file = configuration.key_file = None
            configuration.api_key = {"authorization": f"Bearer {token}"}
        store = KubernetesModelStore(kubernetes_api.KubernetesApi(configuration), settings)
        store.start()
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.stop()


@pytest.fixture
def store(open_store: OpenStore) -> KubernetesModelStore:
    return open_store()


@pytest.fixture
def custom(api: kubernetes.client.ApiClient) -> kubernetes.client.CustomObjectsApi:
    return kubernetes.client.CustomObjectsApi(api)


def model(owner: str, name: str = "echo", **spec: Any) -> InferenceModel:
    fields = {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}, **spec}
    return InferenceModel.model_validate(
        {"metadata": {"name": name, "namespace": owner}, "spec": fields}
    )


def body(name: str = "echo", **spec: Any) -> dict[str, Any]:
    fields = {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}, **spec}
    metadata = {"name": name}
    kind = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "InferenceModel"}
    return {**kind, "metadata": metadata, "spec": fields}


def put(custom: kubernetes.client.CustomObjectsApi, namespace: str, document: Any) -> Any:
    """As kubectl apply."""
    return custom.patch_namespaced_custom_object(
        GROUP,
        VERSION,
        namespace,
        PLURAL,
        document["metadata"]["name"],
        document,
        field_manager="kubectl",
        force=True,
        _content_type="application/apply-patch+yaml",
    )


def get(custom: kubernetes.client.CustomObjectsApi, namespace: str, name: str = "echo") -> Any:
    return custom.get_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, name)


def test_the_first_model_makes_the_namespace(
    store: KubernetesModelStore, owner: str, prefix: str, api: kubernetes.client.ApiClient
) -> None:
    store.create(model(owner))
    store.create(model(owner, "second"))
    found = kubernetes.client.CoreV1Api(api).read_namespace(f"{prefix}{owner}")
    labels = there(there(found.metadata).labels)
    assert labels[LABEL_OWNER] == owner
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_no_account_takes_the_cluster(
    open_store: OpenStore, owner: str, prefix: str, api: kubernetes.client.ApiClient
) -> None:
    core, namespace = kubernetes.client.CoreV1Api(api), f"{prefix}{owner}"
    open_store(owner_namespace_quota={"pods": "3"}).create(model(owner))
    [quota] = core.list_namespaced_resource_quota(namespace).items
    assert there(quota.spec).hard == {"pods": "3"}
    claim = V1PersistentVolumeClaim(
        metadata=V1ObjectMeta(name="huge"),
        spec=V1PersistentVolumeClaimSpec(
            access_modes=["ReadWriteOnce"],
            resources=V1VolumeResourceRequirements(requests={"storage": "900Ti"}),
        ),
    )
    with pytest.raises(ApiException, match="maximum storage usage per PersistentVolumeClaim"):
        core.create_namespaced_persistent_volume_claim(namespace, claim)


def test_a_namespace_that_is_made_belongs_to_an_account(
    store: KubernetesModelStore,
    open_store: OpenStore,
    owner: str,
    prefix: str,
    api: kubernetes.client.ApiClient,
) -> None:
    assert not store.has_place(owner)
    store.create(model(owner), "id-1")
    core = kubernetes.client.CoreV1Api(api)
    found = core.read_namespace(f"{prefix}{owner}")
    assert there(there(found.metadata).labels)[LABEL_OWNER_ID] == "id-1"
    for one in (store, open_store()):
        one.list()
        assert one.owner_ids()[owner] == "id-1"
        for write in (one.create, one.replace):
            with pytest.raises(NamespaceRefused, match="may hand it over by"):
                write(model(owner), "id-2")
    store.replace(model(owner), "id-1")
    store.delete(f"{owner}/echo")
    assert store.has_place(owner)


def test_a_namespace_that_somebody_labelled_is_a_place_while_it_has_models(
    store: KubernetesModelStore, owner: str, make_namespace: Callable[..., str], custom: Any
) -> None:
    namespace = make_namespace(owner)
    assert not store.has_place(owner)
    put(custom, namespace, body())
    assert store.has_place(owner)


def test_what_has_a_place_is_not_known_without_the_api_server(open_store: OpenStore) -> None:
    with pytest.raises(StoreUnavailable):
        open_store(host="https://127.0.0.1:1").has_place("ada")


def test_what_is_created_has_a_spec_and_is_listed(
    store: KubernetesModelStore, owner: str, prefix: str, custom: Any
) -> None:
    made = store.create(model(owner, description="says it again"))
    assert store.list()[f"{owner}/echo"] is made
    assert (made.owner, made.metadata.generation) == (owner, 1)
    assert made.metadata.creation_timestamp is not None
    found = get(custom, f"{prefix}{owner}")
    assert found["spec"]["description"] == "says it again"
    assert "status" not in found
    (manager,) = found["metadata"]["managedFields"]
    assert manager["manager"] == "inference-gateway"
    assert set(manager["fieldsV1"]) == {"f:spec"}


def test_a_namespace_that_somebody_labelled_is_used(
    store: KubernetesModelStore,
    owner: str,
    make_namespace: Callable[..., str],
    custom: Any,
    wait_until: WaitUntil,
) -> None:
    namespace = make_namespace(owner)
    put(custom, namespace, body())
    found = wait_until(lambda: store.list().get(f"{owner}/echo"), timeout=1)
    assert found.metadata.namespace == owner
    store.create(model(owner, "second"))
    assert get(custom, namespace, "second")["spec"]["type"] == "text-generation"


def test_a_status_is_seen_and_the_spec_stays_the_same_object(
    store: KubernetesModelStore, owner: str, prefix: str, custom: Any, wait_until: WaitUntil
) -> None:
    made = store.create(model(owner))
    custom.patch_namespaced_custom_object_status(
        *(GROUP, VERSION, f"{prefix}{owner}", PLURAL, "echo"),
        {"status": {"replicas": 2, "inFlight": 7}},
        _content_type="application/merge-patch+json",
    )

    def seen() -> Any:
        entry = store.list()[f"{owner}/echo"]
        return isinstance(entry, InferenceModel) and entry.status.replicas and entry

    after = wait_until(seen, timeout=1)
    assert (after.status.replicas, after.status.in_flight) == (2, 7)
    assert after.spec is made.spec


def test_replace_changes_the_whole_spec_and_nothing_else(
    store: KubernetesModelStore, owner: str, make_namespace: Callable[..., str], custom: Any
) -> None:
    namespace = make_namespace(owner)
    document = body(description="by kubectl", displayName="Echo")
    document["metadata"]["annotations"] = {"team": "red"}
    put(custom, namespace, document)
    custom.patch_namespaced_custom_object_status(
        *(GROUP, VERSION, namespace, PLURAL, "echo"),
        {"status": {"queued": 3}},
        _content_type="application/merge-patch+json",
    )
    replaced = store.replace(model(owner, version="2"))
    assert (replaced.spec.version, replaced.spec.description) == ("2", "")
    assert (replaced.metadata.generation, replaced.status.queued) == (2, 3)
    found = get(custom, namespace)
    assert "displayName" not in found["spec"]
    assert found["metadata"]["annotations"] == {"team": "red"}
    assert store.replace(model(owner, version="2")).metadata.generation == 2


def test_what_is_deleted_is_gone_at_once(
    store: KubernetesModelStore, owner: str, prefix: str, custom: Any
) -> None:
    store.create(model(owner))
    store.delete(f"{owner}/echo")
    assert f"{owner}/echo" not in store.list()
    with pytest.raises(ApiException, match="404"):
        get(custom, f"{prefix}{owner}")
    again = store.create(model(owner))
    assert store.list()[f"{owner}/echo"] is again


def test_what_somebody_deletes_goes(
    store: KubernetesModelStore, owner: str, prefix: str, custom: Any, wait_until: WaitUntil
) -> None:
    store.create(model(owner))
    custom.delete_namespaced_custom_object(GROUP, VERSION, f"{prefix}{owner}", PLURAL, "echo")
    wait_until(lambda: f"{owner}/echo" not in store.list(), timeout=1)


def test_a_model_is_created_once(store: KubernetesModelStore, owner: str) -> None:
    store.create(model(owner, description="first"))
    with pytest.raises(ModelExists):
        store.create(model(owner, description="second"))
    entry = store.list()[f"{owner}/echo"]
    assert isinstance(entry, InferenceModel)
    assert entry.spec.description == "first"


def test_what_is_not_there(store: KubernetesModelStore, owner: str) -> None:
    for _ in range(2):
        with pytest.raises(ModelMissing):
            store.replace(model(owner))
        with pytest.raises(ModelMissing):
            store.delete(f"{owner}/echo")
        store.create(model(owner, "other"))
        store.delete(f"{owner}/other")


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"min_replicas": 5}, "spec", "minReplicas must not exceed maxReplicas"),
        ({"max_replicas": 0}, "spec.maxReplicas", "greater than or equal to 1"),
        ({"hardware": "GPU!"}, "spec.hardware", "should match"),
    ],
)
def test_what_the_api_server_refuses_names_the_field(
    store: KubernetesModelStore, owner: str, change: dict[str, Any], field: str, message: str
) -> None:
    good = store.create(model(owner))
    # Past pydantic, as an older gateway in front of a newer definition would be.
    bad = good.model_copy(update={"spec": good.spec.model_copy(update=change)})
    with pytest.raises(ModelRefused) as refused:
        store.replace(bad)
    assert [(e["field"], message in e["message"]) for e in refused.value.errors] == [(field, True)]
    assert "Invalid value: " not in str(refused.value) or field != "spec"
    named = good.metadata.model_copy(update={"name": "other"})
    with pytest.raises(ModelRefused, match=field):
        store.create(bad.model_copy(update={"metadata": named}))
    assert store.list()[good.id] is good


def test_what_only_the_gateway_refuses_is_an_invalid_document(
    store: KubernetesModelStore,
    owner: str,
    make_namespace: Callable[..., str],
    custom: Any,
    wait_until: WaitUntil,
) -> None:
    parameter = {"type": "array", "items": {"$ref": "http://x"}}
    put(custom, make_namespace(owner), body(inputSchema={"x": parameter}))
    entry = wait_until(lambda: store.list().get(f"{owner}/echo"), timeout=1)
    assert isinstance(entry, InvalidDocument)
    assert entry.error.startswith("spec.inputSchema.x: ")
    assert store.replace(model(owner)).id == f"{owner}/echo"


@pytest.mark.parametrize("label", [None, "bob"])
def test_a_namespace_of_somebody_else_is_refused(
    store: KubernetesModelStore,
    owner: str,
    prefix: str,
    api: kubernetes.client.ApiClient,
    label: str | None,
) -> None:
    name, labels = f"{prefix}{owner}", {LABEL_OWNER: label} if label else {}
    core = kubernetes.client.CoreV1Api(api)
    core.create_namespace(V1Namespace(metadata=V1ObjectMeta(name=name, labels=labels)))
    whose = f"belongs to {label}" if label else "is no owner's"
    with pytest.raises(NamespaceRefused, match=f"namespace {name} is there already and {whose}"):
        store.create(model(owner))
    assert (there(core.read_namespace(name).metadata).labels or {}).get(LABEL_OWNER) == label
    core.delete_namespace(name)


def test_no_namespace_is_made_where_that_is_off(
    open_store: OpenStore, owner: str, prefix: str, api: kubernetes.client.ApiClient
) -> None:
    store = open_store(create_owner_namespaces=False)
    with pytest.raises(NamespaceRefused, match=f"kubectl label namespace .*{LABEL_OWNER}={owner}"):
        store.create(model(owner))
    with pytest.raises(ApiException, match="404"):
        kubernetes.client.CoreV1Api(api).read_namespace(f"{prefix}{owner}")


def test_a_namespace_that_is_going_says_so(
    store: KubernetesModelStore,
    owner: str,
    prefix: str,
    api: kubernetes.client.ApiClient,
    wait_until: WaitUntil,
) -> None:
    store.create(model(owner))
    core = kubernetes.client.CoreV1Api(api)
    core.patch_namespace(f"{prefix}{owner}", {"metadata": {"finalizers": ["test/hold"]}})
    core.delete_namespace(f"{prefix}{owner}")
    wait_until(lambda: f"{owner}/echo" not in store.list())
    try:
        with pytest.raises(StoreUnavailable, match="is being deleted"):
            store.create(model(owner, "second"))
    finally:
        # Not the default, a strategic merge: that would add this list to the other.
        core.patch_namespace(
            f"{prefix}{owner}",
            {"metadata": {"finalizers": None}},
            _content_type="application/merge-patch+json",
        )


def test_the_older_of_two_namespaces_keeps_the_owner(
    store: KubernetesModelStore,
    owner: str,
    make_namespace: Callable[..., str],
    custom: Any,
    wait_until: WaitUntil,
) -> None:
    first = store.create(model(owner))
    put(custom, namespace := make_namespace(owner), body(description="a rival's"))
    put(custom, namespace, body("other"))
    entry = wait_until(lambda: store.list().get(f"{owner}/other"), timeout=1)
    assert isinstance(entry, InvalidDocument)
    assert f"{namespace} is labelled {LABEL_OWNER}={owner}, but so is " in entry.error
    assert store.list()[first.id] is first


def test_a_list_of_namespaces(
    open_store: OpenStore,
    owner: str,
    make_namespace: Callable[..., str],
    custom: Any,
    wait_until: WaitUntil,
) -> None:
    mine, other = make_namespace(owner), make_namespace(f"{owner}-x")
    store = open_store(watch_namespaces=f"{mine}, kube-system")
    put(custom, other, body())
    put(custom, mine, body())
    wait_until(lambda: store.list().get(f"{owner}/echo"), timeout=1)
    assert [entry.id for entry in store.list().values()] == [f"{owner}/echo"]
    assert store.create(model(owner, "second")).id in store.list()
    with pytest.raises(NamespaceRefused, match="is not one of WATCH_NAMESPACES"):
        store.create(model(f"{owner}-x"))


@pytest.fixture
def take_role_away(owner: str, api: kubernetes.client.ApiClient) -> Iterator[Callable[[], object]]:
    """An account of kube-system's may do everything, until this is called."""
    roles = kubernetes.client.RbacAuthorizationV1Api(api)
    role = V1RoleRef(
        api_group="rbac.authorization.k8s.io", kind="ClusterRole", name="cluster-admin"
    )
    subject = RbacV1Subject(kind="ServiceAccount", name="default", namespace="kube-system")
    binding = V1ClusterRoleBinding(
        metadata=V1ObjectMeta(name=owner), role_ref=role, subjects=[subject]
    )
    roles.create_cluster_role_binding(binding)
    with ExitStack() as stack:
        stack.callback(roles.delete_cluster_role_binding, owner)
        yield stack.close


def test_without_rights_it_says_so(
    open_store: OpenStore,
    owner: str,
    api: kubernetes.client.ApiClient,
    take_role_away: Callable[[], object],
    caplog: pytest.LogCaptureFixture,
    wait_until: Callable[..., Any],
) -> None:
    """As a service account whose role somebody has taken away."""
    core = kubernetes.client.CoreV1Api(api)
    asked = AuthenticationV1TokenRequest(
        spec=V1TokenRequestSpec(audiences=[], expiration_seconds=600)
    )
    made = core.create_namespaced_service_account_token("default", "kube-system", asked)
    store = open_store(token=there(made.status).token)
    names = map("m{}".format, itertools.count())

    def refusal() -> str:
        try:
            store.create(model(owner, next(names)))
        except StoreUnavailable as error:
            return str(error)
        return ""

    assert wait_until(lambda: not refusal())
    take_role_away()
    with caplog.at_level(logging.WARNING):
        refused = wait_until(refusal)
    assert "refuses this gateway (403)" in refused
    assert "serviceaccount" not in refused
    assert 'User "system:serviceaccount:kube-system:default" cannot create' in caplog.text
