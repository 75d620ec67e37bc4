"""What a body may hold is known before it is parsed."""

from __future__ import annotations

import json

import pytest

from inference_gateway.errors import TooLarge, TooManyRequests, Unavailable
from inference_gateway.http.body_limit import InFlight, check_values


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
    for who in ("a", "b", "c"):
        in_flight.take(who, 20)
    with pytest.raises(Unavailable, match="MAX_BYTES_IN_FLIGHT"):
        in_flight.take("d", 21)
    in_flight.take("d", 20)
    in_flight.give("a", 20)
    in_flight.take("e", 20)


def test_nobody_has_more_under_way_than_they_leave_free() -> None:
    in_flight = InFlight(100)
    in_flight.take("a", 50)
    with pytest.raises(TooManyRequests, match="50 bytes of your"):
        in_flight.take("a", 1)
    in_flight.take("b", 25)
    with pytest.raises(TooManyRequests):
        in_flight.take("b", 1)
    in_flight.give("a", 50)
    in_flight.take("b", 25)


def test_what_is_done_is_answered_whatever_is_under_way() -> None:
    in_flight = InFlight(100)
    in_flight.take("a", 120, refuse=False)
    with pytest.raises(Unavailable):
        in_flight.take("b", 1)
    in_flight.give("a", 120)
    in_flight.take("b", 50)
