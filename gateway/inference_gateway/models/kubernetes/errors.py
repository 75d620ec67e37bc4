"""Turns errors of the API server into errors of a ModelStore. Pure, except for logging.

Messages for callers of the REST API do not mention service accounts and hosts; the log does.
"""

from __future__ import annotations

import logging
import re

from inference_contract.field_errors import FieldError
from inference_gateway.models.kubernetes.api import KubernetesError, KubernetesRefused, Unanswered
from inference_gateway.models.store import (
    ModelExists,
    ModelMissing,
    ModelRefused,
    StoreError,
    StoreUnavailable,
    StoreUnconfirmed,
)

log = logging.getLogger(__name__)

_VALUE = re.compile(r'^Invalid value: (?:"(?:[^"\\]|\\.)*": |\{.*\}: )?')
"""Kubernetes' prefix of a message; for a rule over an object the value is just "object"."""


def store_error(error: KubernetesError, model_id: str) -> StoreError:
    """What to raise when writing this model has failed."""
    if not isinstance(error, KubernetesRefused):
        log.warning("writing model %s: %s", model_id, error)
        if isinstance(error, Unanswered):
            return StoreUnconfirmed("Kubernetes does not answer")
        return StoreUnavailable("Kubernetes does not answer; nothing was stored, try again")
    if error.status == 409 and error.reason == "AlreadyExists":
        return ModelExists(model_id)
    if error.status == 404 and error.kind == "inferencemodels":
        return ModelMissing(model_id)
    if error.status in (400, 413, 422) or (error.status == 403 and _is_by_admission(error)):
        return ModelRefused(_field_errors(error))
    log.warning("writing model %s: %s", model_id, error)
    if error.status >= 500:  # From etcd or a proxy: the change may still be made.
        return StoreUnconfirmed(f"Kubernetes cannot do this now ({error.status} {error.reason})")
    return StoreUnavailable(_unavailable(error))


def _unavailable(error: KubernetesRefused) -> str:
    if _is_terminating(error) or (error.status == 404 and error.kind == "namespaces"):
        return "the owner's namespace is being deleted: try again when it is gone"
    if error.status == 404:
        return "the cluster knows no InferenceModels: install the CustomResourceDefinition"
    if error.status in (401, 403):
        return (
            f"Kubernetes refuses this gateway ({error.status}): "
            "give its service account the rights; its log says which"
        )
    return f"Kubernetes cannot do this now ({error.status} {error.reason}): try again"


def _is_by_admission(error: KubernetesRefused) -> bool:
    """Whether a quota or a policy refuses the document; RBAC refuses the gateway."""
    return not _is_terminating(error) and " cannot " not in error.message


def _is_terminating(error: KubernetesRefused) -> bool:
    return any(cause.get("reason") == "NamespaceTerminating" for cause in error.causes)


def _field_errors(error: KubernetesRefused) -> list[FieldError]:
    errors: list[FieldError] = [
        {"field": cause.get("field", ""), "message": _VALUE.sub("", cause.get("message", ""))}
        for cause in error.causes
        if cause.get("field") != "<nil>"
    ]
    return errors or [{"field": "", "message": error.message}]
