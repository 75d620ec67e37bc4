"""Loaded by schemathesis: what it generates and the document cannot say."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import schemathesis

_KEPT = ("ada", "admin", "bob")
"""Accounts of the test."""
_ECHO = "admin/echo"


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    # An administrator can disable and delete the test's own accounts: somebody else's then.
    if case.method in ("PATCH", "DELETE") and case.path_parameters.get("username") in _KEPT:
        case.path_parameters["username"] = "nobody"
    if not isinstance(case.body, dict):
        return
    if "prediction_id" in case.path_parameters or case.path.endswith("/predictions"):
        _reach_the_model(case.body)
    elif case.path.endswith("/multipart") and isinstance(case.body.get("prediction"), dict):
        _reach_the_model(case.body["prediction"])
    elif case.path.startswith("/v1/models") and case.meta and case.meta.generation.mode.is_positive:
        _agree(case.body, case.path_parameters)


def _reach_the_model(body: dict[str, Any]) -> None:
    """Who names the model that is there gives what it takes; no webhook leaves this machine."""
    names = [name for name in ("model", "model_id", "version") if isinstance(body.get(name), str)]
    if any(body[name].startswith(_ECHO) for name in names):
        body |= dict.fromkeys(names, _ECHO)
        if isinstance(body.get("input"), dict):
            body["input"] = {"text": str(body["input"])[:100]}
    webhook = body.get("webhook")
    if isinstance(webhook, str):
        try:
            body["webhook"] = urlsplit(webhook)._replace(netloc="receiver.invalid").geturl()
        except ValueError:
            return


def _agree(document: dict[str, Any], path: dict[str, Any]) -> None:
    """A document of a model has one source and a class only where it may, and says where it is."""
    if "spec" not in document:
        if document.get("model_type") != "custom":
            document.pop("class_name", None)
        return
    document["metadata"] |= {"namespace": path.get("owner", "ada")}
    document["metadata"] |= {"name": path["name"]} if "name" in path else {}
    spec = document["spec"]
    spec["source"] = dict([*spec["source"].items()][:1])
    if spec["type"] != "custom" and isinstance(spec.get("engine"), dict):
        spec["engine"].pop("className", None)
