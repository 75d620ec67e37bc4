"""Engines: how a model of each type is loaded and run."""
