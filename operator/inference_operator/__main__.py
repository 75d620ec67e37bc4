"""`python -m inference_operator` is the operator of a cluster."""

from __future__ import annotations

import sys

from inference_operator.cluster.operator import main

if __name__ == "__main__":
    sys.exit(main())
