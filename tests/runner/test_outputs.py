"""Outputs that JSON cannot hold are refused, and the message says where."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from inference_contract import values
from inference_runner import outputs


class Odd(Enum):
    NAN = math.nan


def refused(output: Any) -> str:
    with pytest.raises((TypeError, values.Unacceptable)) as caught:
        outputs.encode({"output": output}, output)
    error = caught.value
    assert isinstance(error, TypeError | values.Unacceptable)
    return outputs.refusal(error, output)


@pytest.mark.parametrize(
    ("output", "where", "what"),
    [
        (math.nan, "", "holds nan"),
        ({"k": [Odd.NAN]}, "output.k[0].", "holds nan"),
        ({"scores": [0.5, None, -math.inf]}, "output.scores[2].", "holds -inf"),
        ([{"label": "a"}, {"label": "b", "score": np.float32("nan")}], "output[1].score.", "nan"),
        ([np.float64("inf")], "output[0].", "inf"),
        ({"image": b"\x89PNG"}, "output.image.", "bytes"),
        ([np.zeros(2)], "output[0].", "numpy.ndarray"),
        ({"a": {"b": torch.zeros(1)}}, "output.a.b.", "Tensor"),
        ({"a": {1: "b"}}, "output.a.", "str"),
        ({"a": {"set": {1}}}, "output.a.set.", "set"),
        ([0, 2**64], "output[1].", "64-bit"),
        (["ok", "\ud800"], "output[1].", "surrogates"),
        (["ok", "a\0b"], "output[1].", "U+0000"),
        ([np.complex64(1)], "output[0].", "complex64"),
    ],
)
def test_refused(output: Any, where: str, what: str) -> None:
    message = refused(output)
    assert message.endswith(f" See {where}" if where else ".")
    assert ("See" in message) is bool(where)
    assert what in message


def test_what_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert f"See output{'[0]' * 65}." in refused(endless)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        ([np.int64(-3), np.uint64(2**64 - 1)], [-3, 2**64 - 1]),
        ({"ok": np.bool_(True)}, {"ok": True}),
        (np.str_("text"), "text"),
        ((1, None), [1, None]),
        ({"null": None}, {"null": None}),
        ([[np.int64(1)]] * 99, [[1]] * 99),
    ],
)
def test_scalars_of_numpy_are_numbers_and_texts(output: Any, expected: Any) -> None:
    assert orjson.loads(outputs.encode(output, output)) == expected
