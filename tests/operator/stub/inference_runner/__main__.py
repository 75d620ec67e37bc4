"""Does what STUB says: ready (the default), fail, crash, load (for ever), stay (after SIGTERM)."""

import json
import os
import signal
import sys
import time
from pathlib import Path

STATE = Path(os.environ["RUNNER_STATE_FILE"])
DO = os.environ.get("STUB", "ready")


def report(phase: str, message: str = "") -> None:
    temporary = STATE.with_suffix(".new")
    content = {"phase": phase, "pid": os.getpid(), "port": 1234, "message": message}
    temporary.write_text(json.dumps(content))
    temporary.replace(STATE)


def drain(*_: object) -> None:
    report("Draining")
    if DO != "stay":
        sys.exit(0)


signal.signal(signal.SIGTERM, drain)
report("Loading")
print("loading", os.environ["INFERENCE_MODEL_ID"])
if DO == "fail":
    print("Traceback: cheese")
    report("Failed", "the weights are made of cheese")
    sys.exit(3)
if DO == "crash":
    sys.exit(7)
if DO != "load":
    report("Ready")
while True:
    time.sleep(3600)
