"""Who may do what, verb by verb."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

NAME = "inf-inference-server"


def rights(made: Any, kind: str) -> Iterator[tuple[str, str, str]]:
    """(role, resource, verb)"""
    for found in made:
        if found["kind"] == kind:
            name = found["metadata"]["name"].removeprefix(f"prod-{NAME}-")
            scope = found["metadata"].get("namespace")
            for rule in found["rules"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield f"{name}@{scope}" if scope else name, resource, verb


GATEWAY = {("inferencemodels", v) for v in ("list", "watch", "create", "patch", "delete")}
OPERATOR = {
    *(("inferencemodels", verb) for verb in ("list", "watch")),
    ("inferencemodels/status", "patch"),
    ("inferencemodels/finalizers", "update"),
    *(("deployments", verb) for verb in ("get", "list", "watch", "create", "patch")),
    ("deployments/scale", "patch"),
    ("replicasets", "list"),
    *(("pods", verb) for verb in ("list", "watch", "patch")),
    ("pods/log", "get"),
    *(("secrets", verb) for verb in ("get", "create", "patch")),
    *(("serviceaccounts", verb) for verb in ("get", "list", "watch", "create", "patch")),
    *(("networkpolicies", verb) for verb in ("get", "list", "watch", "create", "patch", "delete")),
    *(("leases", verb) for verb in ("get", "create", "update")),
    *(("persistentvolumeclaims", verb) for verb in ("get", "create", "patch")),
    ("events", "create"),
}
LEADER = {
    *(("operator-leader@prod", "leases", verb) for verb in ("get", "create", "update")),
    ("operator-leader@prod", "deployments", "get"),
}
SEES_NAMESPACES = {("namespaces", verb) for verb in ("list", "watch")}
MAKES_NAMESPACES = {
    *(("namespaces", verb) for verb in ("get", "create")),
    *((limit, "create") for limit in ("resourcequotas", "limitranges")),
}


def test_rights_in_all_namespaces(render: Callable[..., Any]) -> None:
    assert set(rights(render(), "ClusterRole")) == {
        *(("gateway", *right) for right in GATEWAY | SEES_NAMESPACES | MAKES_NAMESPACES),
        *(("operator", *right) for right in OPERATOR | SEES_NAMESPACES),
    }
    assert set(rights(render(), "Role")) == LEADER


def test_rights_in_some_namespaces(render: Callable[..., Any]) -> None:
    made = render({"watchNamespaces": ["ada", "bob"]})
    assert set(rights(made, "ClusterRole")) == {
        *(("gateway", *right) for right in SEES_NAMESPACES),
        *(("operator", *right) for right in SEES_NAMESPACES),
    }
    assert set(rights(made, "Role")) == {
        *((f"gateway@{scope}", *right) for scope in ("ada", "bob") for right in GATEWAY),
        *((f"operator@{scope}", *right) for scope in ("ada", "bob") for right in OPERATOR),
        *LEADER,
    }
    (rule,) = made.one("ClusterRole", f"prod-{NAME}-gateway")["rules"]
    assert rule["resourceNames"] == ["ada", "bob"]


def test_rights_are_given_to_the_accounts_of_the_pods(render: Callable[..., Any]) -> None:
    made = render({"watchNamespaces": ["ada"], "operator": {"serviceAccount": {"name": "op"}}})
    for component, account in (("gateway", f"{NAME}-gateway"), ("operator", "op")):
        assert made.pods()[component]["serviceAccountName"] == account
        assert account in made.names("ServiceAccount")
        for kind in ("RoleBinding", "ClusterRoleBinding"):
            binding = made.one(kind, f"prod-{NAME}-{component}")
            subject = {"kind": "ServiceAccount", "name": account, "namespace": "prod"}
            assert binding["subjects"] == [subject]
            assert binding["roleRef"]["name"] == binding["metadata"]["name"]
