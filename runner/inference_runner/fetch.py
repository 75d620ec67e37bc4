"""`python -m inference_runner.fetch`: downloads a hub model to MODEL_CACHE_DIR.

It is the init container of runners' pods: without a time limit, and it logs its progress.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

from inference_contract import logs
from inference_contract.pods import RunnerExit
from inference_runner import settings as settings_of
from inference_runner.settings import SettingsError
from inference_runner.sources import locate

log = logging.getLogger("inference_runner.fetch")


def main() -> int:
    try:
        settings = settings_of.read_for_fetch(os.environ)
    except SettingsError as error:
        print(f"inference_runner.fetch: {error}", file=sys.stderr)  # noqa: T201 - no log yet
        return RunnerExit.MISCONFIGURED
    logs.configure("fetch", settings.log_level)
    # Pid 1 of a container ignores unhandled signals, and threads would keep the process alive.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda number, _: os._exit(128 + number))
    try:
        locate.fetch(settings.spec.source, settings.cache_dir)
    except locate.SourceError as error:
        log.error("the model was not downloaded", extra={"error": str(error)})
        return RunnerExit.LOAD_FAILED
    return RunnerExit.OK


if __name__ == "__main__":
    sys.exit(main())
