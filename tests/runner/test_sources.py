"""From a source to a folder."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from inference_contract.inferencemodel import Source
from inference_runner.sources import locate


def source(**fields: Any) -> Source:
    return Source.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "/no/such"}, "source.path /no/such does not exist"),
        ({"wheel": {"package": "no-such-wheel"}}, "the package no-such-wheel is not installed"),
        ({"wheel": {"package": "redis"}}, r"redis holds 0 files \*.gguf"),
    ],
)
def test_what_is_not_there(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(locate.SourceError, match=message):
        locate.fetch(source(**fields), tmp_path)


def test_a_repository_that_is_there_is_not_downloaded(tmp_path: Path) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert locate.fetch(source(hub={"repo": "org/model"}), tmp_path) == tmp_path / "org" / "model"


def test_two_at_once_make_it_once(tmp_path: Path) -> None:
    made = []

    def make(partial: Path) -> None:
        made.append(partial)
        (partial / "weights").write_text("w")

    folder = tmp_path / "model"
    threads = [threading.Thread(target=locate.made_once, args=(folder, make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (folder / "weights").read_text() == "w"


def test_what_failed_half_way_leaves_nothing(tmp_path: Path) -> None:
    def make(partial: Path) -> None:
        (partial / "weights").write_text("w")
        raise OSError(28, "No space left on device")

    with pytest.raises(locate.SourceError, match="No space left on device"):
        locate.made_once(tmp_path / "model", make)
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]
