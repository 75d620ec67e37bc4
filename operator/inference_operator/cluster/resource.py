"""An InferenceModel of the cluster: what it asks for, whose it is, and when nothing can be done."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from inference_contract import field_errors, owners
from inference_contract.inferencemodel import KIND, InferenceModel, Reason
from inference_contract.pods import LABEL_OWNER
from inference_operator.cluster.api.objects import Key, Manifest
from inference_operator.cluster.children import APP, Parent


class Refusal(Exception):
    """Nothing can be done for a model until somebody acts; the message says what.

    Args:
        may_pass: it is worth trying again, though nothing changes that we watch.
    """

    is_expected = True
    """Worth a line in the log, not a traceback."""

    def __init__(self, reason: Reason, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.may_pass = may_pass


class Homeless(Refusal):
    """The model is nobody's, or another one's namesake: what serves under its name ends."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.INVALID_MODEL, f"{message}; its runners end their work and stop")


@dataclass(frozen=True)
class Resource:
    model: InferenceModel
    """Its namespace is the owner, so that its id is the one of the REST API."""
    parent: Parent

    @property
    def key(self) -> Key:
        return self.parent.namespace, self.parent.name


def parse(found: Manifest, owner: str, home: str) -> Resource:
    """The resource as the API server gave it.

    Args:
        owner: of its namespace; empty: nobody.
        home: the namespace that has the owner's models.

    Raises:
        Homeless: nobody owns its namespace, or its owner has an older one.
        Refusal: it is not valid.
    """
    metadata = found["metadata"]
    namespace = metadata["namespace"]
    if not owner:
        raise Homeless(
            f"namespace {namespace} has no owner: "
            f"kubectl label namespace {namespace} {LABEL_OWNER}=OWNER"
        )
    if not owners.is_name(owner):
        message = f"{owner!r}, the label {LABEL_OWNER} of namespace {namespace}, is no owner's name"
        raise Homeless(message)
    if home != namespace:
        message = (
            f"namespace {namespace} is labelled {LABEL_OWNER}={owner}, but so is {home}, which is "
            "older and has the owner's models: put the model there, or give this namespace "
            "another owner"
        )
        raise Homeless(message)
    content = {key: value for key, value in found.items() if key != "status"}
    content["metadata"] = {**metadata, "namespace": owner}
    try:
        model = InferenceModel.model_validate(content)
    except ValidationError as error:
        message = f"correct the resource: {field_errors.all_of(error)}"
        raise Refusal(Reason.INVALID_MODEL, message) from error
    parent = Parent(namespace, metadata["name"], metadata["uid"])
    return Resource(model, parent)


def require_ours(there: Manifest, parent: Parent) -> None:
    """Raises Refusal if an object of a child's name is not this model's.

    It may pass if the garbage collector has yet to remove it: no watch tells of that.
    """
    metadata = there["metadata"]
    owners = metadata.get("ownerReferences", ())
    if any(owner["uid"] == parent.uid for owner in owners) or is_left_to_us(there, parent):
        return
    what = f"{there['kind']} {metadata['name']}"
    is_going = any(owner["kind"] == KIND and owner["name"] == parent.name for owner in owners)
    if is_going:
        message = f"{what} is of an earlier {KIND} of this name, and goes by itself"
    else:
        message = (
            f"{what} exists and is not of this {KIND}: delete it or give it another name, "
            "or rename the model"
        )
    raise Refusal(Reason.NAME_TAKEN, message, may_pass=is_going)


def is_left_to_us(there: Manifest, parent: Parent) -> bool:
    """Whether it is a child without an owner: the operator removes it."""
    metadata = there["metadata"]
    labels = {**APP, **parent.selector}
    return (
        "ownerReferences" not in metadata and labels.items() <= metadata.get("labels", {}).items()
    )
