"""Embedded mode: the whole system on one machine, no containers; the `inference` command."""
