"""When an object of the cluster is applied again."""

from __future__ import annotations

from typing import Any

import pytest

from inference_operator.cluster.apply.drift import lacks, needs_apply
from inference_operator.cluster.children import Parent, manifest

PARENT = Parent("team-a", "m", "uid-1")
DESIRED = manifest("v1", "Secret", PARENT, {}, {"data": {"A": "YQ=="}})


@pytest.mark.parametrize(
    ("observed", "desired", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1}, {"a": 2}, True),
        ({}, {"a": 1}, True),
        ({}, {"a": False, "b": {}, "c": [], "d": ""}, False),
        ({"a": True}, {"a": False}, True),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 1}}}, False),
        ({"memory": "1Gi"}, {"memory": "1024Mi"}, False),
        ({"cpu": "100m"}, {"cpu": "0.1"}, False),
        ({"memory": "1Gi"}, {"memory": "1G"}, True),
        ({"image": "a:1"}, {"image": "a:2"}, True),
        ([{"name": "b"}, {"name": "a", "value": "1"}], [{"name": "a", "value": "1"}], False),
        ([{"name": "a", "value": "2"}], [{"name": "a", "value": "1"}], True),
        ([], [{"name": "a"}], True),
        ([{"name": "v", "mountPath": "/x"}], [{"name": "v", "mountPath": "/y"}], True),
        (["Egress"], ["Ingress", "Egress"], True),
        ([{"ports": [{"port": 1}]}, {"ports": []}], [{"ports": [{"port": 1}]}], True),
    ],
)
def test_lacks(observed: Any, desired: Any, expected: bool) -> None:
    assert lacks(observed, desired) is expected


def test_a_missing_object_is_applied() -> None:
    assert needs_apply(None, DESIRED)


def test_an_equal_object_is_left_alone() -> None:
    assert not needs_apply({**DESIRED, "status": {}}, DESIRED)


def test_an_object_of_another_manifest_is_applied() -> None:
    before = manifest("v1", "Secret", PARENT, {}, {"data": {"A": "YQ==", "B": "Yg=="}})
    assert needs_apply(before, DESIRED)


def test_a_changed_object_is_applied() -> None:
    assert needs_apply({**DESIRED, "data": {"A": "Yg=="}}, DESIRED)
