"""Everything is removed again, and nothing is left behind but what is meant to stay."""

from __future__ import annotations

import time

from release import Account, Release, kubectl, run

KINDS = (
    "deployments,statefulsets,replicasets,jobs,pods,services,configmaps,secrets,serviceaccounts,"
    "networkpolicies,persistentvolumeclaims,roles,rolebindings,leases,inferencemodels"
)
CLUSTER_KINDS = "clusterroles,clusterrolebindings"
OF_EVERY_NAMESPACE = {
    "configmap/kube-root-ca.crt",
    "serviceaccount/default",
}


def _left(namespace: str, kinds: str = KINDS, *select: str) -> set[str]:
    found = kubectl("get", kinds, "-n", namespace, *select, "-o", "name").split()
    return set(found) - OF_EVERY_NAMESPACE


def test_a_deleted_model_leaves_nothing(account: Account, echo: str) -> None:
    claims = _left(account.namespace, "persistentvolumeclaims")
    # Of the namespace, whose release the Lease names.
    of_namespace = _left(account.namespace, "roles,rolebindings,leases")
    start = time.monotonic()
    account.delete("echo")
    account.wait_until(lambda: _left(account.namespace) == claims | of_namespace, 90, every=0.5)
    print(f"nothing left {time.monotonic() - start:.1f} s after kubectl delete")


def test_an_uninstalled_release_leaves_its_data_and_the_definition(release: Release) -> None:
    pods = release.uids("gateway", "dispatch", "operator", "postgresql", "valkey")
    start = time.monotonic()
    run("helm", "uninstall", release.name, "--namespace", release.name, "--wait")
    print(f"helm uninstall --wait: {time.monotonic() - start:.1f} s")
    select = ("-l", f"app.kubernetes.io/instance={release.name}")
    prefix = f"{release.name}-inference-server"
    kept = {
        f"secret/{prefix}",
        f"persistentvolumeclaim/data-{prefix}-postgresql-0",
        f"persistentvolumeclaim/data-{prefix}-valkey-0",
        # Of `helm test`, whose hooks Helm does not count as the release's.
        f"pod/{prefix}-test",
    }
    release.until_gone(pods)
    # The Lease goes with the operator's Deployment, a moment later.
    release.wait_until(lambda: _left(release.name) <= kept, 30, every=0.5)
    print(f"left: {', '.join(sorted(_left(release.name)))}")
    assert not _left("", CLUSTER_KINDS, *select)
    for account in release.accounts:
        assert not _left(account.namespace, "roles,rolebindings")
    kubectl("get", "crd", "inferencemodels.inference-server.dev")
