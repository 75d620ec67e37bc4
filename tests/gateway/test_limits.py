"""What a body may hold is known before it is parsed."""

from __future__ import annotations

import json

import pytest

from inference_gateway.errors import TooLarge, Unavailable
from inference_gateway.limits import InFlight, check_values


@pytest.mark.parametrize(
    "value",
    [[1] * 9, [[]] * 9, [{}] * 9, {"a": {"b": {"c": list(range(9))}}}, ["a,b", "\\"] * 5],
    ids=["numbers", "lists", "objects", "nested", "texts"],
)
def test_many_values_are_refused(value: object) -> None:
    with pytest.raises(TooLarge):
        check_values(json.dumps(value).encode(), most=5)


@pytest.mark.parametrize(
    "value",
    ["a,b,c,d,e,f,g,h", ['",",",","', "x"], {"a": "[[[[[[[[[[", "b": "\\"}, "\\" * 20 + ",,,,,,,,"],
    ids=["commas", "quoted", "brackets", "backslashes"],
)
def test_separators_within_a_text_are_no_values(value: object) -> None:
    check_values(json.dumps(value).encode(), most=5)


def test_what_is_under_way_is_bounded_for_all_together() -> None:
    in_flight = InFlight(100)
    in_flight.take(60)
    with pytest.raises(Unavailable):
        in_flight.take(60)
    in_flight.take(60, refuse=False)
    in_flight.give(120)
    in_flight.take(100)
