"""The identity of a model's runners: it may do nothing."""

from __future__ import annotations

from collections.abc import Mapping

from inference_operator.manifests.child import Manifest, Parent, manifest


def service_account(parent: Parent, labels: Mapping[str, str]) -> Manifest:
    content = {"automountServiceAccountToken": False}
    return manifest("v1", "ServiceAccount", parent, labels, content)
