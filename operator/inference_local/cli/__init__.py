"""The `inference` command: a file per command. Heavy modules are imported on first use."""

from __future__ import annotations


def main() -> None:
    from inference_local.cli.app import run

    run()
