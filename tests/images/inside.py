"""Runs in a container: says as JSON what its image holds. Arguments: commands, modules."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import cache_from_source, find_spec
from pathlib import Path


def refusal(module: str) -> dict[str, object]:
    """What a process says that has been told nothing."""
    done = subprocess.run(
        [sys.executable, "-m", module], env={}, capture_output=True, text=True, check=False
    )
    return {"code": done.returncode, "lines": done.stderr.splitlines()}


def is_compiled(module: str) -> bool:
    spec = find_spec(module)
    return bool(spec and spec.origin and Path(cache_from_source(spec.origin)).exists())


def can_be_written(folder: str) -> bool:
    try:
        Path(folder, "probe").touch()
    except OSError:
        return False
    return True


commands, modules, processes = (argument.split() for argument in sys.argv[1:])
found = [name for name in modules if find_spec(name)]
report = {
    "user": os.getuid(),
    "commands": [name for name in commands if shutil.which(name)],
    "modules": found,
    "not compiled": [name for name in ("json", *found) if not is_compiled(name)],
    "writable": [folder for folder in ("/srv", "/opt/venv", "/tmp") if can_be_written(folder)],
    "refusals": {name: refusal(name) for name in processes},
}
sys.stdout.write(json.dumps(report))
