"""Who may create which model. A model of an ordinary account must not access the machine."""

from __future__ import annotations

from inference_contract.inferencemodel import InferenceModel, Pod
from inference_contract.modeltype import ModelType
from inference_gateway.auth.accounts import Principal
from inference_gateway.errors import Forbidden


def require_may_write(principal: Principal, model: InferenceModel) -> None:
    """Raises Forbidden."""
    if principal.is_admin:
        return
    if model.owner != principal.username:
        raise Forbidden(
            f"metadata.namespace is {model.owner}: you may make models of {principal.username} only"
        )
    spec, reason = model.spec, None
    if spec.type is ModelType.CUSTOM:
        reason = "register models of type custom: they run code of their own"
    elif spec.source.path is not None:
        reason = "use a path of the server's machine: name a repository of the hub"
    elif spec.env:
        reason = "set spec.env: it changes how the runner's process works"
    elif spec.pod != Pod():
        reason = "set spec.pod: it decides which code runs where"
    if reason is not None:
        raise Forbidden(f"only an administrator may {reason}")
