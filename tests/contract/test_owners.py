"""Gateway and operator ask the same functions which of an owner's namespaces counts."""

from __future__ import annotations

from typing import Any

import pytest

from inference_contract import owners
from inference_contract.pods import LABEL_OWNER

OLD, YOUNG = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def _metadata(name: str, created: str | None = OLD, **more: Any) -> dict[str, Any]:
    age = {} if created is None else {"creationTimestamp": created}
    return {"name": name, "labels": {LABEL_OWNER: "ada"}, **age, **more}


@pytest.mark.parametrize(
    ("namespaces", "home"),
    [
        ([], ""),
        ([_metadata("a", YOUNG), _metadata("b", OLD)], "b"),
        ([_metadata("b"), _metadata("a")], "a"),
        ([_metadata("a", None), _metadata("b", YOUNG)], "b"),
        ([_metadata("a", "")], "a"),
    ],
    ids=["none", "the oldest", "by name", "one of no age is the youngest", "and counts alone"],
)
def test_which_namespace_has_an_owners_models(namespaces: list[dict[str, Any]], home: str) -> None:
    assert owners.home(map(owners.read, namespaces)) == home


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        (_metadata("a"), "ada"),
        (_metadata("a", deletionTimestamp=YOUNG), ""),
        (_metadata("a", labels=None), ""),
        (_metadata("a", labels="none"), ""),
        (_metadata("a", labels={LABEL_OWNER: None}), ""),
        ({"name": "a"}, ""),
    ],
)
def test_whose_a_namespace_is(metadata: dict[str, Any], owner: str) -> None:
    assert owners.read(metadata).owner == owner


@pytest.mark.parametrize(
    ("label", "is_name"), [("ada", True), ("a-1", True), ("Not_A-name.", False), ("", False)]
)
def test_not_every_label_is_an_owners_name(label: str, is_name: bool) -> None:
    assert owners.is_name(label) is is_name
