"""A port that is taken is found out before anything starts, and its holder is named."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference_local import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_holder_is_named(taken: int) -> None:
    name = Path("/proc/self/comm").read_text().strip()
    with pytest.raises(ports.PortError) as caught:
        ports.require_free("127.0.0.1", taken)
    assert str(caught.value) == (
        f"port {taken} is taken by {name} ({os.getpid()}): "
        "choose another with --port or PORT=… make up"
    )


def test_a_holder_that_listens_on_all_addresses_is_named_too() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        holder = ports.holder(server.getsockname()[1])
    assert holder is not None
    assert holder.endswith(f"({os.getpid()})")


def test_a_free_port_passes() -> None:
    ports.require_free("127.0.0.1", ports.free_port("127.0.0.1"))


def test_an_address_of_another_machine_is_one_clear_line() -> None:
    with pytest.raises(ports.PortError, match=r"cannot listen on 192\.0\.2\.1:8000: Cannot assign"):
        ports.require_free("192.0.2.1", 8000)
