"""`python -m inference_runner`: a small parent process, and the runner as its child process.

The parent forwards signals, copies output of the child's C code and subprocesses to the log, and
kills processes that the child leaves behind. After a child that died while it ran predictions it
starts another one; otherwise the parent exits as the child did.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from inference_contract.pods import RunnerEnv, RunnerPhase
from inference_runner import parent
from inference_runner.ends import Ends


def child(ends: Ends) -> int:
    from inference_runner import process

    return process.main(ends)


def main() -> int:
    replaces = os.environ.get(RunnerEnv.REPLACES_ITSELF, "").lower() in {"1", "true", "yes"}
    lease = float(os.environ.get(RunnerEnv.LEASE_SECONDS) or 30)
    return parent.run(child, lease, replaces=replaces, follows=_say_loading)


def _say_loading() -> None:
    """Overwrite the last child's state with "loading"."""
    if path := os.environ.get(RunnerEnv.STATE_FILE):
        from inference_contract import statefile

        with suppress(OSError):
            content = {"phase": RunnerPhase.LOADING.value, "pid": os.getpid(), "port": 0}
            statefile.write(Path(path), content)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
