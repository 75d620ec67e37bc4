"""Custom classes that do to their runner whatever code can do."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Panic(BaseException):
    pass


RAISES = {
    "CancelledError": asyncio.CancelledError,
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": SystemExit,
    "GeneratorExit": GeneratorExit,
    "Panic": Panic,
    "Unspeakable": Unspeakable,
    "MemoryError": MemoryError,
    "StopIteration": StopIteration,
}


def double(number: int) -> int:
    return 2 * number


def dive(depth: int) -> int:
    return dive(depth + 1)


def swallow(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(end - time.monotonic())
        except BaseException:
            continue


def sockets() -> list[str]:
    """Of this process."""
    links = []
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the folder that is read here
            links.append(str(file.readlink()))
    return [link for link in links if link.startswith("socket:")]


def act(do: str, inputs: dict[str, Any]) -> Any:  # noqa: C901
    match do:
        case "sleep":
            time.sleep(inputs.get("seconds", 3600))
        case "lock":
            threading.Event().wait()
        case "child":
            subprocess.run(["sleep", "3600"], check=True)
        case "stdin":
            return sys.stdin.read()
        case "swallow":
            swallow(inputs.get("seconds", 3600))
        case "gil":
            ctypes.PyDLL(None).sleep(3600)
        case "dive":
            dive(0)
        case "pool":
            context = multiprocessing.get_context(inputs.get("method", "fork"))
            with context.Pool(2) as pool:
                return pool.map(double, range(4))
        case "terminate":
            process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
            process.start()
            process.terminate()
            process.join()
            return process.exitcode
        case "sockets":
            with multiprocessing.get_context("fork").Pool(1) as pool:
                return [sockets(), pool.apply(sockets)]
        case "fork":
            os.fork()
        case "exit":
            os._exit(inputs.get("code", 9))
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            os.write(2, b"the last words\n")
            os.abort()
        case "break":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGRTMAX - 3):
                signal.signal(number, signal.SIG_IGN)
            os.chdir("/")
            os.umask(0o777)
            os.environ.clear()
            logging.basicConfig(force=True, level=logging.CRITICAL)
            sys.stdout.close()
            sys.stderr = None
        case "close":
            os.closerange(3, 1024)
        case "print":
            print("from print")
            print("from\0stderr", file=sys.stderr)
            logging.getLogger("mine").warning("from logging")
            os.write(1, b"from C \xff\n")
            subprocess.run(["echo", "from a child"], check=True)
            thread = threading.Thread(target=print, args=("from a thread",))
            thread.start()
            thread.join()
            forked = multiprocessing.get_context("fork").Process(target=print, args=("of a fork",))
            forked.start()
            forked.join()
            for percent in range(101):
                sys.stderr.write(f"\r{percent} %")
            sys.stderr.write("\n")
        case "say":
            print(inputs["text"])
            time.sleep(inputs.get("seconds", 0))
        case "flood":
            for number in range(100_000):
                print(f"line {number}")
        case "daemon":
            subprocess.Popen(["setsid", "sleep", "3600"])
        case name if name in RAISES:
            raise RAISES[name]
    return do


class One:
    def predict(self, inputs: dict[str, Any]) -> Any:
        return act(inputs["do"], inputs)


class Many(One):
    """Marks what it gets."""

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        seen = [inputs.pop("mark", None) for inputs in batch]
        return [seen if i["do"] == "mark" else act(i["do"], i) for i in batch]

    def predict(self, inputs: dict[str, Any]) -> Any:
        return inputs.pop("mark") if inputs["do"] == "mark" else act(inputs["do"], inputs)


class Quick(One):
    """Refuses every batch."""

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        raise ValueError("one at a time")


class Small(One):
    """Has memory for two at a time."""

    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        if len(batch) > 2:
            raise MemoryError
        return [len(batch) for _ in batch]


class Stream:
    def predict(self, inputs: dict[str, Any]) -> Iterator[Any]:
        item: dict[str, Any] = {}
        for number in range(3):
            item["n"] = number
            yield item
        yield None
        act(inputs["do"], inputs)
        yield "end"


class Async:
    async def predict(self, inputs: dict[str, Any]) -> Any:
        await asyncio.sleep(inputs.get("seconds", 0))
        return act(inputs["do"], inputs)


class AsyncStream:
    async def predict(self, inputs: dict[str, Any]) -> AsyncIterator[Any]:
        for number in range(3):
            await asyncio.sleep(0)
            yield number
        await asyncio.sleep(inputs.get("seconds", 0))


class Device:
    """Its device breaks, and then everything fails, as with CUDA's sticky errors."""

    def __init__(self) -> None:
        self.broken = False

    def predict(self, inputs: dict[str, Any]) -> Any:
        self.broken = self.broken or inputs["do"] == "break"
        self.check()
        return inputs["do"]

    def check(self) -> None:
        if self.broken:
            raise RuntimeError("CUDA error: device-side assert triggered")


class Devices(Device):
    def predict_batch(self, batch: list[dict[str, Any]]) -> list[Any]:
        return [self.predict(inputs) for inputs in batch]


class Anew(One):
    """Loads once as it should, and then does something else."""

    def __init__(self, mark: str, second: str) -> None:
        self.mark, self.second = Path(mark), second

    def load(self) -> None:
        if self.mark.exists():
            act(self.second, {})
            raise RuntimeError("it loads once")
        self.mark.touch()
