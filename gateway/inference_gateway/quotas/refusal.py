"""The error for a request beyond a quota."""

from __future__ import annotations

from inference_gateway.errors import Forbidden


class QuotaExceeded(Forbidden):
    """The message says which quota, its value, its setting, and what to do."""

    title = "Quota exceeded"
