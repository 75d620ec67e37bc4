"""The error that ends a command."""

from __future__ import annotations


class CliError(Exception):
    """One line for the user. Exit code 1."""
