"""Causal language models: requests join and leave between steps."""
