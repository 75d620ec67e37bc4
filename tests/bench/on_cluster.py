"""What the parts of the benchmark that need a Kubernetes have in common."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

import kubernetes.config


def connect() -> None:
    """To the cluster that KUBECONFIG names."""
    if "KUBECONFIG" not in os.environ:
        raise SystemExit("this part needs a cluster: `make cluster`, then KUBECONFIG as it says")
    kubernetes.config.load_kube_config()


def run(*argv: str, stdin: str | None = None, check: bool = True) -> str:
    """Standard output of a command."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {done.stderr}")
    return done.stdout


def until(condition: Callable[[], object], seconds: float, every: float = 0.02) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not so after {seconds:g} s")
        time.sleep(every)
