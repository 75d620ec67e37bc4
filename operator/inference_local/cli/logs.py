"""`inference logs`: the logs of all processes, merged and made readable."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from inference_contract.queues import model_key
from inference_local.cli.context import DEFAULT_HOME, HomeOption
from inference_local.cli.errors import CliError
from inference_local.home import Home
from inference_operator.local.log_rotation import earlier

POLL = 0.2
TAIL_BYTES = 1_000_000
_SHOWN = ("time", "level", "process", "logger", "event", "exception")


def logs(
    name: Annotated[
        str | None, typer.Argument(help="A process (gateway, postgres, …) or a model: owner/name.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("-n", min=0, help="Number of last lines.")] = 50,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Print logs: of all processes, of one, or of a model's runners."""
    folder = Home(home).logs
    found = files(folder, name)
    if not found:
        known = sorted(path.stem for path in files(folder, None))
        raise CliError(f"no logs of {name or 'anything'} in {folder}: there are {known}")
    offsets = {path: path.stat().st_size for path in found}
    last = [line for path in found for line in tail(path, offsets[path], lines)]
    last.sort(key=lambda pair: _time(pair[1]))
    for path, line in last[max(0, len(last) - lines) :]:
        _print(path, line)
    try:
        while follow:
            time.sleep(POLL)
            for path, line in news(folder, name, offsets):
                _print(path, line)
    except KeyboardInterrupt:
        return


def files(folder: Path, name: str | None) -> list[Path]:
    if name is None:
        return sorted(folder.rglob("*.log"))
    if "/" in name:
        return sorted((folder / "runners").glob(f"{model_key(name)}-*.log"))
    return [path for path in [folder / f"{name}.log"] if path.exists()]


def tail(path: Path, end: int, count: int) -> list[tuple[Path, str]]:
    with path.open("rb") as file:
        file.seek(max(0, end - TAIL_BYTES))
        text = file.read(end - file.tell()).decode(errors="replace")
    found = _lines(text)
    before = earlier(path)
    if len(found) < count and end < TAIL_BYTES and before.exists():
        rest = tail(before, before.stat().st_size, count - len(found))
        return [(path, line) for _, line in rest] + _of(path, found)
    return _of(path, found[-count:]) if count else []


def _of(path: Path, lines: list[str]) -> list[tuple[Path, str]]:
    return [(path, line) for line in lines]


def news(folder: Path, name: str | None, offsets: dict[Path, int]) -> Iterator[tuple[Path, str]]:
    """Complete lines after the offsets, which are advanced. Includes new and truncated files."""
    for path in files(folder, name):
        start = offsets.get(path, 0)
        if path.stat().st_size < start:
            start = 0
        with path.open("rb") as file:
            file.seek(start)
            whole = file.read().rpartition(b"\n")[0]
        offsets[path] = start + len(whole) + 1 if whole else start
        for line in _lines(whole.decode(errors="replace")):
            yield path, line


def pretty(source: str, line: str) -> str:
    """A JSON log line as readable text; any other line as it is, after its source."""
    record = _parse(line)
    if record is None:
        return f"{source}: {line}"
    clock = str(record.get("time", ""))[11:23]
    extra = " ".join(f"{key}={value}" for key, value in record.items() if key not in _SHOWN)
    head = f"{clock} {record.get('level', ''):7} {source}: {record.get('event', '')}"
    text = f"{head}  {extra}" if extra else head
    return f"{text}\n{record['exception']}" if "exception" in record else text


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _lines(text: str) -> list[str]:
    """Not `splitlines`: it also splits at characters that a line of JSON may hold, as U+2028."""
    return text.removesuffix("\n").split("\n") if text else []


def _time(line: str) -> str:
    """The sort key. Lines without a time sort first, in their order: the sort is stable."""
    return str((_parse(line) or {}).get("time", ""))


def _print(path: Path, line: str) -> None:
    sys.stdout.write(pretty(path.stem, line) + "\n")
    sys.stdout.flush()
