"""Engines: how a model of each type is loaded and run."""

from __future__ import annotations

import os

# OpenMP's threads wait for each other several hundred times a token. By default they spin for
# milliseconds, which is free on an idle machine and ruinous where other processes share its cores:
# with a load of 5 on 2 cores, 1 to 8 tokens/s against 5 to 20 with a short spin (idle: 3 % slower).
# libgomp reads this once, when torch is imported: so it stands here.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
