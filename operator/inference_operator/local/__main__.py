"""`python -m inference_operator.local` is the operator of one machine."""

from __future__ import annotations

import sys

from inference_operator.local.operator import main

if __name__ == "__main__":
    sys.exit(main())
