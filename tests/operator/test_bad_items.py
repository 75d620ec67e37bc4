"""One odd object, document, file or model: the operator goes on with the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from stub_api import StubApi

from inference_contract import statefile
from inference_contract.inferencemodel import Reason
from inference_operator.cluster.api.client import Cluster
from inference_operator.cluster.api.kinds import Kind
from inference_operator.cluster.cache.lister import Lister
from inference_operator.cluster.cache.mirror import Mirror
from inference_operator.local import runner_files
from inference_operator.local.documents import Documents, InvalidDocument

SPEC = {"type": "text-generation", "source": {"hub": {"repo": "gpt2"}}}


def found(name: str, **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "team", "uid": name, "resourceVersion": "5"}
    return {"metadata": metadata, "spec": SPEC, **parts}


ODD: list[Any] = [
    *(None, 7, "x", [], {}, {"metadata": None}, {"metadata": {"name": "odd"}}),
    {"metadata": {"name": "odd", "namespace": "team", "resourceVersion": "soon"}},
    {"metadata": {"name": [], "namespace": "team", "resourceVersion": "5"}},
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", [Kind.MODEL, Kind.POD, Kind.DEPLOYMENT, Kind.NAMESPACE])
def test_the_mirror_knows_the_others(odd: Any, kind: Kind) -> None:
    mirror = Mirror()
    items = [found("before"), odd, found("later")]
    mirror.replace(kind, "", [(items, "9")])
    assert mirror.names(kind) == {("team", "before"), ("team", "later")}


@pytest.mark.parametrize("levels", [190, 1100, 9000])
def test_a_model_that_is_nested_too_deep_hides_no_other(
    cluster: Cluster, api: StubApi, monkeypatch: pytest.MonkeyPatch, levels: int
) -> None:
    schema = f'{{"x":{{"type":"string","default":{"[" * levels}{"]" * levels}}}}}'
    head = '{"apiVersion":"v1","kind":"InferenceModelList","metadata":{"resourceVersion":"9"},'
    item = '{"metadata":{"name":"%s","namespace":"team","uid":"u","resourceVersion":"5"},"spec":%s}'
    items = ",".join(
        item % named for named in (("deep", f'{{"inputSchema":{schema}}}'), ("m", "{}"))
    )
    content = f'{head}"items":[{items}]}}'.encode()
    monkeypatch.setattr(Cluster, "_call", lambda *_, **__: content)
    mirror = Mirror()
    mirror.replace(Kind.MODEL, "", cluster.pages(Kind.MODEL))
    assert mirror.models() == {("team", "deep"), ("team", "m")}
    deep, fine = (mirror.model(("team", name)) for name in ("deep", "m"))
    assert deep is not None
    assert fine is not None
    assert fine["spec"] == {}


def test_the_lister_lives_on(wait_until: Any) -> None:
    class Odd:
        asked = 0

        def pages(self, *_: Any) -> Any:
            self.asked += 1
            if self.asked == 1:
                raise TypeError("an answer that is none")
            return [([], "9")]

    listed: list[int] = []
    cluster: Any = Odd()
    lister = Lister(cluster, Mirror(), [], 60, lambda _: None, lambda: listed.append(1))
    lister.start()
    wait_until(lambda: listed)
    lister.close()


def test_documents_that_cannot_be_read_hide_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "ada"
    folder.mkdir(parents=True)
    head = "apiVersion: inference-server.dev/v1alpha1\nkind: InferenceModel\nspec: %s\n"
    fine = "{type: text-generation, source: {hub: {repo: gpt2}}}"
    odd = {
        "deep": head % fine + "x: " + "[" * 400_000,
        "bool": head % fine + "x: !!bool y",
        "moment": head % fine + "x: !!timestamp y",
        "metadata": head % fine + "metadata: []",
        "twice": head % fine + "spec: {}",
    }
    for name, text in {**odd, "fine": head % fine}.items():
        (folder / f"{name}.yaml").write_text(text)
    os.mkfifo(folder / "pipe.yaml")
    (folder / "endless.yaml").symlink_to("/dev/zero")
    read = Documents(tmp_path).read()
    valid = {name for name, document in read.items() if not isinstance(document, InvalidDocument)}
    assert valid == {"ada/fine"}
    assert read.keys() == {f"ada/{name}" for name in (*odd, "fine", "pipe", "endless")}


STATES = [
    *(b"", b"nonsense", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"phase":[]}', b"{" * 3),
    b'{"phase":"ready","message":' + b"[" * 3000 + b"]" * 3000 + b"}",
    b" " * 2_000_000,
]


@pytest.mark.parametrize("state", STATES)
def test_a_state_file_may_hold_anything(tmp_path: Path, state: bytes) -> None:
    (tmp_path / "state.json").write_bytes(state)
    assert statefile.read(tmp_path / "state.json") in (None, {"phase": []})


def test_a_state_file_may_be_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    assert statefile.read(tmp_path / "pipe") is None
    assert statefile.read(tmp_path / "endless") is None


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"model": 7}'),
        '{"model":7,"slot":0,"name":"n","hash":"h","grace_seconds":1,"log_offset":0}',
        '{"model":"a/b","slot":"x","name":"n","hash":"h","grace_seconds":1,"log_offset":0}',
        '{"model":"a/b","slot":0,"name":"n","hash":"h","grace_seconds":1,"log_offset":0,"pid":"x"}',
    ],
)
def test_a_record_that_is_none_is_removed(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "run" / "runners"
    folder.mkdir(parents=True)
    (folder / "odd.launch").write_text(content)
    fine = runner_files.Launch("ada/m", 0, "n", "h", 1.0, 0)
    runner_files.RunnerFiles(tmp_path, "ada/m", 0).record(fine)
    assert [launch for launch, _ in runner_files.recorded(tmp_path)] == [fine]
    assert not (folder / "odd.launch").exists()


@pytest.mark.parametrize("step", ["plan", "status"])
def test_a_model_that_cannot_be_worked_with_keeps_no_other_from_running(
    machine: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from inference_operator.local import operator

    works = getattr(operator, step)

    def fails(*given: Any) -> Any:
        if "odd" in repr(given):
            raise RuntimeError("no plan for this one")
        return works(*given)

    machine.apply(
        "alice/odd", minReplicas=1, displayName="odd", env=[{"name": "X", "value": "odd"}]
    )
    machine.apply(minReplicas=1)
    monkeypatch.setattr(operator, step, fails)
    machine.until(machine.says(Reason.READY))
    assert machine.operators[-1].last_tick is not None
