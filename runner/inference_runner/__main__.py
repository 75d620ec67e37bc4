"""`python -m inference_runner`: a small parent that stays, and the runner, its child.

The parent passes signals on, carries to the log what the child's C code and its children print,
ends whatever the child leaves behind, and ends as the child did.
"""

from __future__ import annotations

import os
import sys

from inference_contract.pods import REPLACED, RunnerEnv
from inference_runner import parent
from inference_runner.ends import Ends


def child(ends: Ends) -> int:
    from inference_runner import process

    return process.main(ends)


def main() -> int:
    replaces = os.environ.get(RunnerEnv.REPLACES_ITSELF, "").lower() in {"1", "true", "yes"}
    lease = float(os.environ.get(RunnerEnv.LEASE_SECONDS) or 30)
    while True:
        code = parent.run(child, lease)
        if code not in REPLACED or not replaces:
            return code


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
