"""`python -m inference_runner.fetch`, and the same download in a runner; the hub is `fake_hub`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import Hub

from inference_contract.pods import RunnerExit
from inference_runner.sources.progress import PERIOD, Progress

REPO = "org/model"
WEIGHTS = "model.safetensors"
SECOND = "model-00002-of-00002.safetensors"
FETCH = [sys.executable, "-m", "inference_runner.fetch"]
Line = dict[str, Any]


def _files(seed: int = 0, weights: int = 3_000_000) -> dict[str, bytes]:
    body = random.Random(seed).randbytes(weights)
    return {"config.json": b"{}", WEIGHTS: body, "pytorch_model.bin": b"pickle", "code.py": b"1"}


class Download:
    """A cache, and downloads into it."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.cache = folder / "cache"
        self.spec: dict[str, Any] = {"type": "text-generation"}
        self._env = {**os.environ, "HOME": str(folder), "MODEL_CACHE_DIR": str(self.cache)}

    def start(self, revision: str | None = None, **environ: str) -> subprocess.Popen[str]:
        spec = {**self.spec, "source": {"hub": {"repo": REPO, "revision": revision}}}
        env = {
            **self._env,
            "INFERENCE_MODEL_SPEC": json.dumps(spec),
            "HF_ENDPOINT": self.hub.url,
            **environ,
        }
        return subprocess.Popen(FETCH, env=env, stderr=subprocess.PIPE, text=True)

    def fetch(self, revision: str | None = None, **environ: str) -> tuple[int, list[Line]]:
        """The exit code, and what was logged."""
        process = self.start(revision, **environ)
        return _end(process)

    def folder(self, revision: str | None = None) -> Path:
        """As a runner without network finds it."""
        code, lines = self.fetch(revision, HF_HUB_OFFLINE="1")
        assert code == RunnerExit.OK, lines
        commit: str = lines[-1]["commit"]
        return self.cache / "models--org--model" / "snapshots" / commit

    def gets(self, file: str = WEIGHTS) -> list[str]:
        """The requests for the content of a file since the last call."""
        found = [r for r in self.hub.requests if r.startswith("GET") and f"/{file}" in r]
        self.hub.requests.clear()
        return found


def _end(process: subprocess.Popen[str]) -> tuple[int, list[Line]]:
    _, text = process.communicate(timeout=60)
    return process.returncode, [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def download(hub: Hub, tmp_path: Path) -> Download:
    hub.add(REPO, _files())
    return Download(hub, tmp_path)


def test_what_the_engines_read_is_downloaded(download: Download) -> None:
    code, lines = download.fetch()
    assert code == RunnerExit.OK
    folder = download.folder()
    assert {path.name for path in folder.iterdir()} == {"config.json", WEIGHTS}
    assert (folder / WEIGHTS).read_bytes() == _files()[WEIGHTS]
    total = len(_files()[WEIGHTS]) + 2
    shown = [
        (line["percent"], line["bytes"], line["total_bytes"]) for line in (lines[0], lines[-1])
    ]
    assert {line["event"] for line in lines} == {"downloading"}
    assert shown == [(0, 0, total), (100, total, total)]
    assert lines[0]["repo"] == REPO


INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": SECOND}}).encode()
BESIDE = ["config.json", "tokenizer.json", "tokenizer.model", "vocab.txt", "chat_template.jinja"]
TRANSFORMERS = {
    **dict.fromkeys(BESIDE, b"{}"),
    "README.md": b"1",
    "trainer_state.json": b"{}",
    "pytorch_model.bin": b"1",
    "pytorch_model.bin.index.json": b"{}",
    "tf_model.h5": b"1",
    "model.fp16.safetensors": b"1",
    "consolidated.safetensors": b"1",
    "model-q4.gguf": b"1",
    "onnx/model.onnx": b"1",
    "onnx/config.json": b"{}",
    "original/consolidated.00.pth": b"1",
    "original/params.json": b"{}",
    "1_Pooling/config.json": b"{}",
}
PIPELINE = {
    "model_index.json": json.dumps(
        {
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "safety_checker": [None, None],
            "sizes": [8, 8],
        }
    ).encode(),
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"1",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"1",
    "unet/diffusion_pytorch_model.bin": b"1",
    "text_encoder/config.json": b"{}",
    "text_encoder/model.safetensors.index.json": INDEX,
    "text_encoder/model-00001-of-00002.safetensors": b"1",
    f"text_encoder/{SECOND}": b"1",
    "text_encoder/model-00001-of-00009.safetensors": b"1",
    "tokenizer/vocab.json": b"{}",
    "tokenizer/merges.txt": b"1",
    "safety_checker/model.safetensors": b"1",
    "vae_decoder/model.onnx": b"1",
    "v1-5-pruned.safetensors": b"1",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({**TRANSFORMERS, WEIGHTS: b"1", "model.safetensors.index.json": INDEX}, [WEIGHTS]),
        (
            {
                **TRANSFORMERS,
                "model.safetensors.index.json": INDEX,
                "model-00001-of-00002.safetensors": b"1",
                SECOND: b"1",
                "model-00001-of-00009.safetensors": b"1",
            },
            ["model-00001-of-00002.safetensors", SECOND, "model.safetensors.index.json"],
        ),
    ],
    ids=["whole", "in shards"],
)
def test_of_several_formats_one_is_downloaded(
    download: Download, files: dict[str, bytes], expected: list[str]
) -> None:
    download.hub.add(REPO, files)
    assert download.fetch()[0] == RunnerExit.OK
    assert _names(download.folder()) == sorted([*BESIDE, *expected])


def test_of_a_pipeline_its_components_are_downloaded(download: Download) -> None:
    download.hub.add(REPO, PIPELINE)
    download.spec = {"type": "text-to-image"}
    assert download.fetch()[0] == RunnerExit.OK
    unwanted = (".fp16.safetensors", ".bin", ".onnx", "-of-00009.safetensors", "pruned.safetensors")
    assert _names(download.folder()) == sorted(
        name
        for name in PIPELINE
        if not name.endswith(unwanted) and not name.startswith("safety_checker")
    )


def test_a_pinned_commit_that_is_there_in_part_is_completed(download: Download) -> None:
    commit = download.hub.commit(REPO)
    assert download.fetch(commit)[0] == RunnerExit.OK
    folder = download.folder(commit)
    (folder / WEIGHTS).unlink()
    assert download.fetch(commit)[0] == RunnerExit.OK
    assert (folder / WEIGHTS).exists()


def _names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_it_says_how_far_it_is(download: Download) -> None:
    download.hub.add(REPO, _files(weights=30_000_000))
    download.hub.rate = 10_000_000
    _, lines = download.fetch()
    percents = [line["percent"] for line in lines]
    assert percents == sorted(percents)
    assert any(0 < percent < 100 for percent in percents)


def test_what_is_in_the_cache_is_not_downloaded_again(download: Download) -> None:
    commit = download.hub.commit(REPO)
    download.fetch()
    download.gets()
    code, [line] = download.fetch()
    assert (code, line["event"], line["commit"]) == (RunnerExit.OK, "in the cache", commit)
    assert download.gets() == []


@pytest.mark.parametrize("is_tag", [True, False])
def test_a_pinned_revision_in_the_cache_is_not_looked_up(download: Download, is_tag: bool) -> None:
    commit = download.hub.commit(REPO)
    download.hub.tags["v1"] = commit
    revision = "v1" if is_tag else commit
    assert download.fetch(revision)[0] == RunnerExit.OK
    download.hub.requests.clear()
    code, [line] = download.fetch(revision)
    assert (code, line["event"]) == (RunnerExit.OK, "in the cache")
    assert download.hub.requests == []


def test_without_a_pin_the_newest_commit_is_taken(download: Download) -> None:
    download.fetch()
    commit = download.hub.add(REPO, _files(seed=1))
    download.fetch()
    assert download.folder().name == commit


def test_a_connection_that_breaks_is_resumed(download: Download) -> None:
    download.hub.add(REPO, _files(weights=25_000_000))
    download.hub.cuts[WEIGHTS] = 15_000_000
    code, lines = download.fetch()
    assert code == RunnerExit.OK
    assert lines[-1]["percent"] == 100
    first, second = download.gets()
    assert "bytes=" not in first
    assert "bytes=" in second
    assert (download.folder() / WEIGHTS).read_bytes() == _files(weights=25_000_000)[WEIGHTS]


def test_a_killed_download_is_taken_up_again(
    download: Download, wait_until: Callable[..., Any]
) -> None:
    """As the kubelet ends a container. Whole files are kept."""
    download.hub.add(REPO, {**_files(), "a.txt": b"a" * 100})
    download.hub.rate = 500_000
    process = download.start()
    snapshots = download.cache / "models--org--model" / "snapshots"
    wait_until(lambda: len(list(snapshots.glob("*/*"))) == 2)
    process.send_signal(signal.SIGTERM)
    assert _end(process)[0] == 128 + signal.SIGTERM
    download.gets()
    download.hub.rate = 0
    code, lines = download.fetch()
    assert code == RunnerExit.OK
    assert lines[0]["bytes"] == 102
    assert [r for r in download.hub.requests if "a.txt" in r] == []
    download.folder()


def test_an_unfinished_commit_does_not_take_the_place_of_a_whole_one(
    download: Download, wait_until: Callable[..., Any]
) -> None:
    whole = download.hub.commit(REPO)
    download.fetch()
    download.gets()
    download.hub.add(REPO, _files(seed=1))
    download.hub.rate = 500_000
    process = download.start()
    wait_until(lambda: download.gets())
    process.kill()
    process.communicate()
    assert download.folder().name == whole


def test_two_at_once_download_once(download: Download) -> None:
    download.hub.rate = 2_000_000
    processes = [download.start(), download.start()]
    assert [_end(process)[0] for process in processes] == [RunnerExit.OK] * 2
    assert len(download.gets()) == 1


def test_a_partial_file_that_nobody_writes_is_removed(download: Download) -> None:
    blobs = download.cache / "models--org--model" / "blobs"
    blobs.mkdir(parents=True)
    old, young = blobs / "old.incomplete", blobs / "young.incomplete"
    for path in (old, young):
        path.touch()
    os.utime(old, (1, 1))
    download.fetch()
    assert [old.exists(), young.exists()] == [False, True]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (404, "RepoNotFound"),
            "the hub has no repository org/model, or it is private: correct spec.source.hub.repo, "
            "or set HF_TOKEN in spec.env, from a Secret",
        ),
        (
            (403, ""),
            "the hub does not let us have org/model (HTTP 403): set HF_TOKEN in spec.env, from a "
            "Secret that may",
        ),
        ((503, ""), "cannot download org/model: the hub does not answer; check the network"),
    ],
)
def test_why_a_hub_gives_nothing(download: Download, answer: tuple[int, str], message: str) -> None:
    download.hub.answer = answer
    code, lines = download.fetch()
    assert code == RunnerExit.LOAD_FAILED
    assert lines[-1]["level"] == "error"
    assert lines[-1]["error"].startswith(message)


def test_a_gated_repository_needs_a_token(download: Download) -> None:
    download.hub.gated.add(REPO)
    download.hub.token = "hf_secret"
    code, lines = download.fetch()
    assert code == RunnerExit.LOAD_FAILED
    assert lines[-1]["error"] == (
        "org/model is gated: accept its terms on the hub, and set HF_TOKEN in spec.env, from a "
        "Secret"
    )
    assert download.fetch(HF_TOKEN="hf_secret")[0] == RunnerExit.OK


def test_a_revision_that_is_not_there(download: Download) -> None:
    _, lines = download.fetch("v9")
    assert lines[-1]["error"] == "org/model has no revision v9: correct spec.source.hub.revision"


@pytest.mark.parametrize(
    "environ", [{"HF_ENDPOINT": "http://127.0.0.1:1"}, {}], ids=["away", "503"]
)
def test_without_the_hub_the_cache_will_do(download: Download, environ: dict[str, str]) -> None:
    download.fetch()
    download.hub.answer = (503, "")
    code, [line] = download.fetch(**environ)
    assert code == RunnerExit.OK
    assert line["level"] == "warning"
    assert line["event"] == "the hub does not answer: going on with what is in the cache"


def test_what_the_hub_refuses_the_cache_does_not_give(download: Download) -> None:
    """It may be the cache of a node, filled by somebody who had a token."""
    download.fetch()
    download.hub.answer = (401, "RepoNotFound")
    assert download.fetch()[0] == RunnerExit.LOAD_FAILED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(argv, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_not_filled(download: Download, small_disk: Path) -> None:
    code, lines = download.fetch(MODEL_CACHE_DIR=str(small_disk))
    assert code == RunnerExit.LOAD_FAILED
    assert lines[-1]["error"].startswith("the disk is full: org/model needs 0.0 GB more")
    assert download.gets() == []


def test_the_environment_must_be_valid(download: Download) -> None:
    process = subprocess.run(
        FETCH, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert process.returncode == RunnerExit.MISCONFIGURED
    assert process.stderr == "inference_runner.fetch: INFERENCE_MODEL_SPEC is not set\n"


def test_it_does_not_import_what_it_does_not_need() -> None:
    code = "import sys, inference_runner.fetch; from inference_runner.sources import huggingface"
    code = f"{code}; print(*sys.modules)"
    argv = [sys.executable, "-c", code]
    modules = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "transformers", "diffusers", "numpy", "redis", "rq"} & set(modules)


def test_a_runner_asks_no_hub_for_what_was_fetched(
    download: Download,
    runner: Callable[..., Any],
    wait_until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    tiny = Path(__file__).parents[1] / "docs" / "tiny_gpt2.py"
    subprocess.run([sys.executable, str(tiny), str(tmp_path / "tiny")], check=True)
    download.hub.add(REPO, tmp_path / "tiny")
    download.fetch()
    download.hub.requests.clear()
    spec = {"type": "text-generation", "source": {"hub": {"repo": REPO}}}
    process = runner(
        spec,
        HF_HUB_OFFLINE="1",
        HF_ENDPOINT=download.hub.url,
        MODEL_CACHE_DIR=str(download.cache),
    )
    wait_until(process.is_ready, timeout=60)
    assert download.hub.requests == []


def test_progress_is_said_at_the_ends_and_now_and_then() -> None:
    said: list[tuple[int, int]] = []
    times = iter([0.0, 0.1, PERIOD, PERIOD, PERIOD + 1, 9.0])
    progress = Progress(10, 200, lambda *what: said.append(what), lambda: next(times))
    progress.begin()
    for done in (20, 50, 60, 40, 200):
        progress.reach(done)
    progress.end()
    assert said == [(10, 5), (50, 25), (200, 100)]


def test_nothing_to_count_is_all_of_it() -> None:
    said: list[tuple[int, int]] = []
    Progress(0, 0, lambda *what: said.append(what)).end()
    assert said == [(0, 100)]
