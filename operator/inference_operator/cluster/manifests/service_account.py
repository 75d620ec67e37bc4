"""The service account of a model's runners, which has no rights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.children import Parent, manifest


def service_account(
    parent: Parent, labels: Mapping[str, str], pull_secrets: Sequence[str] = ()
) -> Manifest:
    """
    Args:
        pull_secrets: Secrets in its namespace. Pods get them through the account, so that a change
            of them is no new version of the model.
    """
    content: Manifest = {"automountServiceAccountToken": False}
    if pull_secrets:
        content["imagePullSecrets"] = [{"name": name} for name in pull_secrets]
    return manifest("v1", "ServiceAccount", parent, labels, content)
