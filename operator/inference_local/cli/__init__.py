"""The `inference` command: a file per command. What is heavy to import is imported in use."""

from __future__ import annotations


def main() -> None:
    from inference_local.cli.app import run

    run()
