"""Reading documents, and naming what is wrong with one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inference_contract.inferencemodel import InferenceModel, ScalingMode
from inference_operator.local.documents import MAX_BYTES, Documents, InvalidDocument

VALID = """
apiVersion: inference-server.dev/v1alpha1
kind: InferenceModel
metadata: {name: m, namespace: alice}
spec: {type: text-generation, source: {path: /m}}
"""


def _write(home: Path, text: str | bytes, name: str = "m") -> Path:
    file = home / "models" / "alice" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_a_document(tmp_path: Path) -> None:
    _write(tmp_path, VALID)
    model = Documents(tmp_path).read()["alice/m"]
    assert isinstance(model, InferenceModel)
    assert model.id == "alice/m"


def test_a_document_without_owner_belongs_to_its_folder(tmp_path: Path) -> None:
    _write(tmp_path, VALID.replace(", namespace: alice", ""))
    model = Documents(tmp_path).read()["alice/m"]
    assert isinstance(model, InferenceModel)
    assert model.owner == "alice"


def test_a_relative_path_starts_at_the_document(tmp_path: Path) -> None:
    file = _write(tmp_path, VALID.replace("/m}", "./echo}"))
    model = Documents(tmp_path).read()["alice/m"]
    assert isinstance(model, InferenceModel)
    assert model.spec.source.path == str(file.parent / "echo")


def test_the_operator_scales_what_nobody_else_could(tmp_path: Path) -> None:
    _write(tmp_path, VALID.replace("spec: {", "spec: {autoscaling: {mode: None}, "))
    model = Documents(tmp_path).read()["alice/m"]
    assert isinstance(model, InferenceModel)
    assert model.spec.autoscaling.mode is ScalingMode.OPERATOR


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "document: not a mapping"),
        ("[1]", "document: not a mapping"),
        ("a: [", "document: not YAML"),
        ("a: !!python/object:os.system {}", "document: not YAML"),
        (b"\xff\xfe\xff", "document: not YAML"),
        ("[" * 5000, "document: "),
        ("x" * (MAX_BYTES + 1), f"document: larger than {MAX_BYTES} bytes"),
        (VALID.replace("kind: InferenceModel", "kind: Pod"), "kind: Input should be"),
        (VALID.replace("name: m", "name: n"), "metadata.name: is 'n', but the file says 'm'"),
        (VALID.replace("alice", "bob"), "metadata.namespace: is 'bob', but the file says 'alice'"),
        (VALID.replace("{name: m, namespace: alice}", "7"), "metadata: Input should be"),
        (VALID.replace("type: text", "type: tex"), "spec.type: Input should be 'text-generation'"),
        (VALID.replace("{path: /m}", "{}"), "spec.source: set exactly one of path, pvc, hub"),
        (
            VALID.replace("{path: /m}", "{pvc: {claimName: c}}"),
            "spec.source.pvc: is for Kubernetes",
        ),
        (
            VALID.replace(
                "spec: {", "spec: {env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}], "
            ),
            "spec.env.A.valueFrom: is for Kubernetes",
        ),
        (VALID.replace("spec: {", "spec: {minReplicas: 2, "), "spec: minReplicas must not exceed"),
        (VALID.replace("spec: {", "spec: {replicas: 2, "), "spec.replicas: Extra inputs"),
        (VALID.replace("spec: {", "spec: {engine: {dtype: x}, "), "spec.engine.dtype: Input"),
        (VALID.replace("spec: {", "spec: {1: 2, "), "spec: has the key '1'"),
    ],
)
def test_an_invalid_document_names_the_field(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    _write(tmp_path, text)
    found = Documents(tmp_path).read()["alice/m"]
    assert isinstance(found, InvalidDocument)
    assert message in found.message
    assert found.last_valid is None


def test_a_name_that_no_model_can_have(tmp_path: Path) -> None:
    _write(tmp_path, VALID.replace("name: m,", "name: A_b,"), "A_b")
    found = Documents(tmp_path).read()["alice/A_b"]
    assert isinstance(found, InvalidDocument)
    assert "metadata.name" in found.message


def test_a_document_that_becomes_invalid_keeps_what_it_said(tmp_path: Path) -> None:
    file = _write(tmp_path, VALID)
    documents = Documents(tmp_path)
    valid = documents.read()["alice/m"]
    for text in ("a: [", "b: ["):
        file.write_text(text)
        found = documents.read()["alice/m"]
        assert isinstance(found, InvalidDocument)
        assert found.last_valid is valid


def test_a_file_is_parsed_again_only_when_it_changed(tmp_path: Path) -> None:
    file = _write(tmp_path, VALID)
    documents = Documents(tmp_path)
    before = documents.read()["alice/m"]
    assert documents.read()["alice/m"] is before
    os.utime(file, ns=(1, 1))
    assert documents.read()["alice/m"] is not before


def test_a_deleted_document_is_gone(tmp_path: Path) -> None:
    file = _write(tmp_path, VALID)
    documents = Documents(tmp_path)
    assert documents.read()
    file.unlink()
    assert documents.read() == {}


def test_a_home_without_models(tmp_path: Path) -> None:
    assert Documents(tmp_path / "nothing").read() == {}
