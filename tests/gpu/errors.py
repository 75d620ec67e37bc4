"""What torch raises after a CUDA error that stays, and after one that does not.

`python errors.py ERROR` is the child process: it prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


def rows(_: Path, cuda: bool) -> Iterator[tuple[str, str, bool]]:
    if not cuda:
        yield "CUDA errors", "skipped: no GPU", True
        return
    for error in _PROVOKE:
        done = subprocess.run(
            [sys.executable, __file__, error], capture_output=True, text=True, timeout=120
        )
        try:
            seen = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            yield error, f"rc {done.returncode}, {done.stderr[-500:]}", False
            continue
        for when, what in seen.items():
            yield f"{error}: {when}", what, True
        yield f"{error}: exit code of the process", str(done.returncode), True


def _assert() -> None:
    import torch

    table = torch.zeros(4, 4, device="cuda")
    torch.nn.functional.embedding(torch.tensor([99], device="cuda"), table).sum().item()


def _memory() -> None:
    import torch

    torch.empty(1 << 50, dtype=torch.uint8, device="cuda")


_PROVOKE: dict[str, Callable[[], None]] = {"assert": _assert, "memory": _memory}


def _said(do: Callable[[], object]) -> str:
    try:
        do()
    except BaseException as error:
        kinds = [kind.__name__ for kind in type(error).__mro__[:-2]]
        code = getattr(error, "error_code", None)
        return f"{' < '.join(kinds)}, error_code {code}: {str(error).splitlines()[0]}"
    return "fine"


def _child(error: str) -> None:
    import torch

    seen = {
        "the call": _said(_PROVOKE[error]),
        "the next": _said(lambda: torch.ones(2, device="cuda").sum().item()),
        "synchronize": _said(torch.cuda.synchronize),
        "mem_get_info": _said(torch.cuda.mem_get_info),
        "a call on the CPU": _said(lambda: torch.ones(2).sum().item()),
    }
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    _child(sys.argv[1])
