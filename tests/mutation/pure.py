"""A plugin of pytest's: leaves out the tests that would start a server, for every mutant."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings

# That an example fails is enough: to look for the smallest one takes longer than the test.
settings.register_profile(
    "mutate", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate]
)

_SERVERS = {"servers", "api", "machine"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        starts_server = _SERVERS & set(getattr(item, "fixturenames", ()))
        (left_out if starts_server else wanted).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = wanted
