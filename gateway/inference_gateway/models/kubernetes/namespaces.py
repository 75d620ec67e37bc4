"""Creates an owner's namespace when the account creates its first model.

Not at registration: most accounts only run models of others, and unused namespaces would be a
burden for administrators.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from inference_contract.pods import LABEL_OWNER, LABEL_OWNER_ID
from inference_gateway.models.kubernetes import namespace_limits
from inference_gateway.models.kubernetes.api import (
    KubernetesApi,
    KubernetesError,
    KubernetesRefused,
)
from inference_gateway.models.store import NamespaceRefused, StoreUnavailable

log = logging.getLogger(__name__)

PATH = "/api/v1/namespaces"
_POD_SECURITY = "pod-security.kubernetes.io/enforce"


class OwnerNamespaces:
    def __init__(
        self,
        api: KubernetesApi,
        prefix: str,
        *,
        pod_security: str,
        quota: Mapping[str, str],
        largest_claim: str,
        may_create: bool,
        watched: frozenset[str],
    ) -> None:
        self._api = api
        self._prefix = prefix
        self._pod_security = pod_security
        self._quota, self._largest_claim = quota, largest_claim
        self._may_create = may_create
        self._watched = watched
        """Empty: all."""

    def make(self, owner: str, owner_id: str | None) -> dict[str, Any]:
        """Create the namespace of an owner without one; safe to call from several gateways at once.

        Raises:
            NamespaceRefused: it may not be created, or belongs to another account; the message says
                what an administrator can do.
            StoreUnavailable
        """
        name = f"{self._prefix}{owner}"
        how = f"kubectl label namespace {{}} {LABEL_OWNER}={owner}"
        if not self._may_create:
            raise NamespaceRefused(
                f"{owner} has no namespace, and this gateway makes none (CREATE_OWNER_NAMESPACES): "
                f"an administrator may give them one by `{how.format('<name>')}`"
            )
        if self._watched and name not in self._watched:
            raise NamespaceRefused(
                f"{owner} has no namespace, and {name} is not one of WATCH_NAMESPACES: an "
                f"administrator may add it there, or label one of those for {owner} by "
                f"`{how.format('<name>')}`"
            )
        try:
            found = self._create(name, owner, owner_id)
        except KubernetesError as error:
            log.warning("making namespace %s: %s", name, error)
            raise StoreUnavailable(_unavailable(error, name)) from error
        if (reason := refusal(found, owner, owner_id)) is not None:
            raise NamespaceRefused(f"{reason}: an administrator may {_remedy(found, owner, how)}")
        if "deletionTimestamp" in found["metadata"]:
            raise StoreUnavailable(f"namespace {name} is being deleted: try again when it is gone")
        try:
            self._limit(name)  # Also if another gateway created it and then ended.
        except KubernetesError as error:
            log.warning("limiting namespace %s: %s", name, error)
            raise StoreUnavailable(_unavailable(error, name)) from error
        return found

    def _create(self, name: str, owner: str, owner_id: str | None) -> dict[str, Any]:
        """The created namespace, or the existing one."""
        try:
            made = self._api.create(PATH, manifest(name, owner, owner_id, self._pod_security))
        except KubernetesRefused as error:
            if error.status != 409:
                raise
            return self._api.get(f"{PATH}/{name}")
        log.info("made namespace %s for %s", name, owner)
        return made

    def _limit(self, name: str) -> None:
        """Create the limits. Existing ones stay: an administrator may have raised them."""
        made = {"limitranges": namespace_limits.limits(name, self._largest_claim)}
        if self._quota:
            made["resourcequotas"] = namespace_limits.quota(name, self._quota)
        for plural, body in made.items():
            try:
                self._api.create(f"{PATH}/{name}/{plural}", body)
            except KubernetesRefused as error:
                if error.status != 409:
                    raise


def manifest(name: str, owner: str, owner_id: str | None, pod_security: str) -> dict[str, Any]:
    """The Namespace with its Pod Security label. Runners need only the restricted profile, unless
    weights are kept in a folder of the node."""
    labels = {LABEL_OWNER: owner, _POD_SECURITY: pod_security}
    if owner_id is not None:
        labels[LABEL_OWNER_ID] = owner_id
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def refusal(namespace: Mapping[str, Any], owner: str, owner_id: str | None) -> str | None:
    """Why an existing namespace with the right name is not this owner's; None if it is."""
    name = namespace["metadata"]["name"]
    labels = namespace["metadata"].get("labels", {})
    label = labels.get(LABEL_OWNER)
    if label == owner:
        if owner_id is None or labels.get(LABEL_OWNER_ID, owner_id) == owner_id:
            return None
        return f"namespace {name} belongs to another account, which had the name {owner}"
    whose = "is no owner's" if label is None else f"belongs to {label}"
    return f"namespace {name} is there already and {whose}"


def hand_over(name: str) -> str:
    """The command that hands over the namespace of a deleted account."""
    return f"hand it over by `kubectl label namespace {name} {LABEL_OWNER_ID}-`"


def _remedy(namespace: Mapping[str, Any], owner: str, how: str) -> str:
    metadata = namespace["metadata"]
    if metadata.get("labels", {}).get(LABEL_OWNER) == owner:
        return hand_over(metadata["name"])
    if LABEL_OWNER in metadata.get("labels", {}):
        return f"label another by `{how.format('<name>')}`"
    return f"hand it over by `{how.format(metadata['name'])}`, or label another"


def _unavailable(error: KubernetesError, name: str) -> str:
    if isinstance(error, KubernetesRefused) and error.status in (401, 403):
        return (
            f"Kubernetes does not let this gateway make namespace {name}: give its service account "
            "the right to create and get namespaces, and to create resourcequotas and limitranges, "
            "or set CREATE_OWNER_NAMESPACES=false"
        )
    if isinstance(error, KubernetesRefused):
        return f"namespace {name} cannot be made: {error.message}"
    return "Kubernetes does not answer: try again"
