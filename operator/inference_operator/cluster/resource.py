"""An InferenceModel of the cluster with its owner, and the errors that keep it from running."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from inference_contract import field_errors, owners
from inference_contract.inferencemodel import KIND, InferenceModel, Reason
from inference_contract.pods import LABEL_OWNER
from inference_operator.cluster.api.objects import Key, Manifest
from inference_operator.cluster.children import APP, Parent


class Refusal(Exception):
    """The operator cannot run a model until its user changes something; the message says what.

    Args:
        may_pass: whether a retry may succeed without a change that a watch reports.
    """

    is_expected = True
    """Logged as a line, without a traceback."""

    def __init__(self, reason: Reason, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.may_pass = may_pass


class Unowned(Refusal):
    """The model has no owner, or its namespace does not count: its runners are stopped."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.INVALID_MODEL, f"{message}; its runners end their work and stop")


@dataclass(frozen=True)
class Resource:
    model: InferenceModel
    """Its namespace is replaced by the owner, so that its id is the REST API's."""
    parent: Parent

    @property
    def key(self) -> Key:
        return self.parent.namespace, self.parent.name


def parse(found: Manifest, owner: str, home: str) -> Resource:
    """Parse an object of the API server.

    Args:
        owner: owner of its namespace; empty: none.
        home: the owner's oldest namespace, whose models count.

    Raises:
        Unowned: its namespace has no owner, or the owner has an older namespace.
        Refusal: the model is not valid.
    """
    metadata = found["metadata"]
    namespace = metadata["namespace"]
    if not owner:
        raise Unowned(
            f"namespace {namespace} has no owner: "
            f"kubectl label namespace {namespace} {LABEL_OWNER}=OWNER"
        )
    if not owners.is_name(owner):
        message = f"{owner!r}, the label {LABEL_OWNER} of namespace {namespace}, is no owner's name"
        raise Unowned(message)
    if home != namespace:
        message = (
            f"namespace {namespace} is labelled {LABEL_OWNER}={owner}, but so is {home}, which is "
            "older and has the owner's models: put the model there, or give this namespace "
            "another owner"
        )
        raise Unowned(message)
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
    """Raises Refusal if an object with a child's name is not this model's.

    `may_pass` if the garbage collector will remove the object: no watch reports that.
    """
    metadata = there["metadata"]
    owners = metadata.get("ownerReferences", ())
    if any(owner["uid"] == parent.uid for owner in owners) or is_left_to_us(there, parent):
        return
    what = f"{there['kind']} {metadata['name']}"
    is_terminating = any(owner["kind"] == KIND and owner["name"] == parent.name for owner in owners)
    if is_terminating:
        message = f"{what} is of an earlier {KIND} of this name, and goes by itself"
    else:
        message = (
            f"{what} exists and is not of this {KIND}: delete it or give it another name, "
            "or rename the model"
        )
    raise Refusal(Reason.NAME_TAKEN, message, may_pass=is_terminating)


def is_left_to_us(there: Manifest, parent: Parent) -> bool:
    """Whether the object is a child without owner reference, which the operator must remove."""
    metadata = there["metadata"]
    labels = {**APP, **parent.selector}
    return (
        "ownerReferences" not in metadata and labels.items() <= metadata.get("labels", {}).items()
    )
