"""Documents as YAML files, and the catalog over them."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from inference_contract import layout
from inference_contract.inferencemodel import InferenceModel
from inference_gateway.auth.accounts import Principal
from inference_gateway.errors import Conflict, NotFound
from inference_gateway.models import catalog as catalogs
from inference_gateway.models.catalog import CatalogModel, ModelCatalog
from inference_gateway.models.files.store import YamlModelStore
from inference_gateway.models.inputs.checker import InputChecker
from inference_gateway.models.store import (
    InvalidDocument,
    ModelExists,
    ModelMissing,
    NamespaceRefused,
    StoreUnavailable,
)

ADA = Principal("id-of-ada", "ada", is_admin=False)
BOB = Principal("id-of-bob", "bob", is_admin=False)

DOCUMENT = """
apiVersion: inference-server.dev/v1alpha1
kind: InferenceModel
metadata: {name: echo, namespace: ada}
spec: {type: text-generation, source: {hub: {repo: gpt2}}}
"""


def model(name: str = "echo", **spec: object) -> InferenceModel:
    fields = {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}, **spec}
    return InferenceModel.model_validate(
        {"metadata": {"name": name, "namespace": "ada"}, "spec": fields}
    )


@pytest.fixture
def store(tmp_path: Path) -> YamlModelStore:
    return YamlModelStore(tmp_path)


def write(home: Path, text: str, name: str = "echo") -> None:
    path = layout.model_file(home, "ada", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_what_is_created_is_listed(store: YamlModelStore) -> None:
    made = store.create(model(description="says it again"))
    assert store.list() == {"ada/echo": made}
    assert made.metadata.generation == 1
    assert made.metadata.creation_timestamp is not None


def test_a_file_holds_what_its_author_said(store: YamlModelStore, tmp_path: Path) -> None:
    store.create(model())
    path = layout.model_file(tmp_path, "ada", "echo")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert text.startswith("apiVersion: inference-server.dev/v1alpha1\nkind: InferenceModel\n")
    assert "autoscaling" not in text


def test_a_model_is_created_once(store: YamlModelStore, tmp_path: Path) -> None:
    store.create(model(description="first"))
    with pytest.raises(ModelExists):
        store.create(model(description="second"))
    (entry,) = store.list().values()
    assert isinstance(entry, InferenceModel)
    assert entry.spec.description == "first"
    assert [path.name for path in (tmp_path / "models" / "ada").iterdir()] == ["echo.yaml"]


def test_a_new_spec_is_a_new_generation(store: YamlModelStore) -> None:
    first = store.create(model())
    assert store.replace(model()).metadata.generation == 1
    second = store.replace(model(version="2"))
    assert second.metadata.generation == 2
    assert second.metadata.creation_timestamp == first.metadata.creation_timestamp


def test_changed_code_is_a_new_generation_and_version(
    store: YamlModelStore, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    (code / "parts").mkdir(parents=True)
    (code / "echo.py").write_text("one")
    (code / "parts" / "more.py").write_text("one")
    document = model(type="custom", source={"path": str(code)}, engine={"className": "echo:Echo"})

    def put() -> tuple[int, str]:
        made = store.replace(document)
        assert store.list()["ada/echo"] == made
        return made.metadata.generation, made.spec.runner_hash()

    first = store.create(document)
    seen = [(1, first.spec.runner_hash()), put()]
    assert seen[0] == seen[1]
    for file in ("echo.py", "parts/more.py", "new.py"):
        (code / file).write_text("two")
        seen += [put(), put()]
        assert seen[-1] == seen[-2]
    (code / "new.py").unlink()
    (code / "__pycache__").mkdir()
    seen.append(put())
    (code / "__pycache__" / "echo.py").write_text("no matter")
    (code / "notes.txt").write_text("no matter")
    assert put() == seen[-1]
    assert [generation for generation, _ in seen] == [1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert len({version for _, version in seen}) == 4  # The last is the third again.


def test_code_that_is_not_there_has_no_digest(store: YamlModelStore, tmp_path: Path) -> None:
    source = {"path": str(tmp_path / "missing"), "digest": "00ff"}
    made = store.create(model(type="custom", source=source, engine={"className": "echo:Echo"}))
    assert made.spec.source.digest is None


def test_what_is_not_there(store: YamlModelStore) -> None:
    with pytest.raises(ModelMissing):
        store.replace(model())
    with pytest.raises(ModelMissing):
        store.delete("ada/echo")


def test_the_operators_status_is_merged(store: YamlModelStore, tmp_path: Path) -> None:
    store.create(model())
    path = layout.status_file(tmp_path, "ada", "echo")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"replicas": 2, "inFlight": 7}))
    (entry,) = store.list().values()
    assert isinstance(entry, InferenceModel)
    assert (entry.status.replicas, entry.status.in_flight) == (2, 7)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "an InferenceModel is a mapping"),
        ("a: [", "not YAML"),
        ("a: 2026-99-99", "not YAML"),
        (DOCUMENT.replace("text-generation", "poetry"), "spec.type: "),
        (DOCUMENT.replace("{repo: gpt2}", "{repo: 7}"), "spec.source.hub.repo: "),
        (DOCUMENT.replace("gpt2}}", "gpt2}}, minReplicas: 5"), "spec: minReplicas must not exceed"),
        (DOCUMENT.replace("gpt2}}", "gpt2}}, color: red"), "spec.color: "),
        (DOCUMENT.replace("v1alpha1", "v9"), "apiVersion: "),
        (DOCUMENT.replace("name: echo", "name: other"), "metadata.namespace/name: says ada/other"),
        ("!!python/object/apply:os.system [true]", "not YAML"),
    ],
)
def test_a_document_that_is_not_valid_says_where(
    store: YamlModelStore, tmp_path: Path, text: str, error: str
) -> None:
    write(tmp_path, text)
    (entry,) = store.list().values()
    assert isinstance(entry, InvalidDocument)
    assert entry.error.startswith(error)


def test_what_has_not_changed_is_the_same_object(store: YamlModelStore) -> None:
    store.create(model())
    assert store.list()["ada/echo"] is store.list()["ada/echo"]


def test_a_private_model_is_not_there_for_others(store: YamlModelStore) -> None:
    catalog = ModelCatalog(store)
    catalog.create(model())
    assert catalog.get("ada/echo", ADA).key == "ada_echo"
    for viewer in (BOB, None):
        with pytest.raises(NotFound, match="no model ada/echo"):
            catalog.get("ada/echo", viewer)
    with pytest.raises(NotFound, match="no model ada/none"):
        catalog.get("ada/none", ADA)


def test_a_public_model_is_there_for_all(store: YamlModelStore) -> None:
    catalog = ModelCatalog(store)
    catalog.create(model(visibility="public"))
    assert [entry.id for entry in catalog.visible(None)] == ["ada/echo"]
    assert catalog.get("ada/echo", None).validate_input({"prompt": "x"})["top_p"] == 1.0


def test_a_broken_document_is_its_owners_business(store: YamlModelStore, tmp_path: Path) -> None:
    write(tmp_path, "a: [")
    catalog = ModelCatalog(store)
    catalog.refresh()
    assert catalog.visible(BOB) == []
    with pytest.raises(NotFound):
        catalog.get("ada/echo", BOB)
    with pytest.raises(Conflict, match="is not valid: not YAML"):
        catalog.get("ada/echo", ADA)


def test_a_status_does_not_compile_the_schema_anew(
    store: YamlModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def compile_schema(parameters: Any, one_of: Any) -> InputChecker:
        compiled.append(parameters)
        return InputChecker(parameters, one_of)

    monkeypatch.setattr(catalogs, "InputChecker", compile_schema)
    catalog = ModelCatalog(store)
    catalog.create(model())
    path = layout.status_file(tmp_path, "ada", "echo")
    path.parent.mkdir(parents=True)
    path.write_text('{"queued": 3}')
    catalog.refresh()
    after = catalog.entry("ada/echo")
    assert isinstance(after, CatalogModel)
    assert after.model.status.queued == 3
    assert len(compiled) == 1


async def test_a_file_that_somebody_writes_appears(store: YamlModelStore, tmp_path: Path) -> None:
    catalog = ModelCatalog(store)
    await catalog.start()
    write(tmp_path, DOCUMENT)
    async with asyncio.timeout(10):
        while catalog.entry("ada/echo") is None:  # noqa: ASYNC110 - it is the polling under test
            await asyncio.sleep(0.02)
    await catalog.stop()


def test_a_folder_that_is_made_belongs_to_an_account(store: YamlModelStore, tmp_path: Path) -> None:
    catalog = ModelCatalog(store)
    catalog.create(model(), "id-of-ada")
    mark = layout.owner_file(tmp_path, "ada")
    assert (mark.read_text(), stat.S_IMODE(mark.stat().st_mode)) == ("id-of-ada\n", 0o600)
    other = Principal("id-of-another", "ada", is_admin=False)
    assert [entry.id for entry in catalog.visible(ADA)] == ["ada/echo"]
    assert catalog.visible(other) == []
    with pytest.raises(NotFound):
        catalog.get("ada/echo", other)
    for write in (catalog.create, catalog.replace):
        with pytest.raises(Conflict, match=r"may hand it over by removing models/ada/\.owner"):
            write(model(), other.user_id)


def test_what_is_written_later_belongs_to_the_account_of_the_folder(
    store: YamlModelStore, tmp_path: Path
) -> None:
    store.create(model("first"), "id-of-ada")
    store.delete("ada/first")
    write(tmp_path, DOCUMENT)
    write(tmp_path, "a: [", "broken")
    catalog = ModelCatalog(store)
    catalog.refresh()
    other = Principal("id-of-another", "ada", is_admin=False)
    assert catalog.visible(other) == []
    assert [entry.id for entry in catalog.visible(ADA)] == ["ada/broken", "ada/echo"]
    layout.owner_file(tmp_path, "ada").unlink()
    catalog.refresh()
    assert [entry.id for entry in catalog.visible(other)] == ["ada/broken", "ada/echo"]


def test_a_folder_that_a_person_made_is_marked_by_the_first_write(
    store: YamlModelStore, tmp_path: Path
) -> None:
    write(tmp_path, DOCUMENT)
    store.replace(model())
    assert not layout.owner_file(tmp_path, "ada").exists()
    store.replace(model(), "id-of-ada")
    store.list()
    assert store.owner_ids() == {"ada": "id-of-ada"}


@pytest.mark.parametrize("content", [b"", b"\xff", None])
def test_a_mark_that_cannot_be_read_is_nobodys(
    store: YamlModelStore, tmp_path: Path, content: bytes | None
) -> None:
    write(tmp_path, DOCUMENT)
    mark = layout.owner_file(tmp_path, "ada")
    mark.mkdir() if content is None else mark.write_bytes(content)
    catalog = ModelCatalog(store)
    catalog.refresh()
    assert catalog.visible(ADA) == []
    with pytest.raises(NamespaceRefused):
        store.create(model("new"), "id-of-ada")


def test_a_place_is_what_has_documents_or_a_mark(store: YamlModelStore, tmp_path: Path) -> None:
    assert not store.has_place("ada")
    write(tmp_path, DOCUMENT)
    assert store.has_place("ada")
    store.replace(model(), "id-of-ada")
    store.delete("ada/echo")
    assert store.has_place("ada")
    layout.owner_file(tmp_path, "ada").unlink()
    assert not store.has_place("ada")
    layout.models_dir(tmp_path).joinpath("bob").touch()
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        store.has_place("bob")
