"""The identity of a model's runners: it may do nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inference_operator.cluster.api.objects import Manifest
from inference_operator.cluster.children import Parent, manifest


def service_account(
    parent: Parent, labels: Mapping[str, str], pull_secrets: Sequence[str] = ()
) -> Manifest:
    """
    Args:
        pull_secrets: Secrets of its namespace. The pods get them when they are made, so that other
            ones are no other version of the model.
    """
    content: Manifest = {"automountServiceAccountToken": False}
    if pull_secrets:
        content["imagePullSecrets"] = [{"name": name} for name in pull_secrets]
    return manifest("v1", "ServiceAccount", parent, labels, content)
