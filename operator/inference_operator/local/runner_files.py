"""The files of one runner, by which the next operator finds the process.

run/runners/<key>-<slot>.json      the runner's own RunnerState
run/runners/<key>-<slot>.launch    the operator's record of the process
run/runners/<key>-<slot>/          its working directory
logs/runners/<key>-<slot>.log      its output, appended to by every start
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from inference_contract import statefile
from inference_contract.queues import model_key
from inference_operator import log_tail
from inference_operator.local import log_rotation

MAX_LOG_BYTES = 10_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """The record of a start. Written before the process exists, then again with its pid."""

    model: str
    slot: int
    name: str
    """RUNNER_NAME, unique for each start."""
    hash: str
    grace_seconds: float
    log_offset: int
    """Where this start's lines begin in the log file, bytes."""
    pid: int | None = None
    identity: str | None = None


class RunnerFiles:
    def __init__(self, home: Path, model: str, slot: int) -> None:
        name = f"{model_key(model)}-{slot}"
        self.folder = home / "run" / "runners" / name
        self.state = self.folder.with_name(f"{name}.json")
        self.launch = self.folder.with_name(f"{name}.launch")
        self.log = home / "logs" / "runners" / f"{name}.log"

    def prepare(self) -> int:
        """Create the folders, remove files of an earlier start, return the size of the log.

        Raises:
            OSError: for instance when the disk is full.
        """
        self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.rotate()
        return self.log.stat().st_size if self.log.exists() else 0

    def rotate(self) -> None:
        """Rotate the log if it is large; the last lines of a crash stay readable."""
        try:
            log_rotation.rotate(self.log, MAX_LOG_BYTES)
        except OSError as error:
            log.warning("cannot rotate a log: %s", error, extra={"file": str(self.log)})

    def record(self, launch: Launch) -> None:
        """Raises OSError."""
        statefile.write(self.launch, asdict(launch))

    def tail(self, offset: int) -> list[str]:
        """The last lines that were written after `offset`."""
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, 2)
                is_whole = end >= offset  # or it was rotated meanwhile
                file.seek(max(offset if is_whole else 0, end - log_tail.MAX_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
            if not is_whole and len(lines) < log_tail.LINES:
                lines = RunnerFiles._end_of(log_rotation.earlier(self.log)) + lines
        except OSError:
            return []
        return log_tail.shortened(lines)

    @staticmethod
    def _end_of(file: Path) -> list[str]:
        with file.open("rb") as content:
            content.seek(max(0, content.seek(0, 2) - log_tail.MAX_BYTES))
            return content.read().decode(errors="replace").splitlines()

    def remove(self) -> None:
        """Remove all files but the log."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for file in (self.state, self.launch):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                log.warning("cannot remove %s: %s", file, error)


def recorded(home: Path) -> Iterator[tuple[Launch, RunnerFiles]]:
    """Every launch recorded in this home, whether the process still runs or not."""
    for path in sorted((home / "run" / "runners").glob("*.launch")):
        try:
            launch = TypeAdapter(Launch).validate_python(statefile.read(path) or {})
        except ValidationError:
            log.warning("%s is no launch record; removing it", path)
            path.unlink(missing_ok=True)
            continue
        yield launch, RunnerFiles(home, launch.model, launch.slot)
