"""Mutants that change nothing a test could see: the function, the reason and the changed lines.

The names do not have mutmut's numbers, as those change with each edit of the function.
"""

from __future__ import annotations

_INPUTS = "inference_gateway.models.inputs"
_CHECKS = f"{_INPUTS}.item_checks"
_CONTRACT = "inference_contract"
_REQUESTS = "inference_gateway.predictions.creating.requests"

_LISTED: list[tuple[str, str, list[str]]] = [
    (
        f"{_INPUTS}.budget.xǁThreadBudgetǁ_more",
        "a nanosecond more or less",
        ["if time.thread_time() >= self._until:"],
    ),
    (
        f"{_INPUTS}.checker.xǁInputCheckerǁ_errors",
        "looks for what is missing, more slowly, and finds nothing",
        ["if not self._required < value.keys():"],
    ),
    (
        f"{_INPUTS}.checker.xǁInputCheckerǁ_adapted",
        "an equal copy",
        ["return {**value, **changed} if (changed) or True else value"],
    ),
    (
        f"{_INPUTS}.checker.x__compile",
        "the first of one is that one; without the call it is faster",
        ["return checks[0] if (len(checks) == 1) and False else _first_of(checks)"],
    ),
    (
        f"{_INPUTS}.checker.x__enum_check",
        "no document holds so many values",
        ["keys = {key_of(member, Budget(1000001)) for member in enum}"],
    ),
    (f"{_CHECKS}.x__unbounded", "no document holds so many values", ["return Budget(1000001)"]),
    (
        f"{_CHECKS}.x__prefix_items",
        "false is what zip takes for granted",
        [
            "or all(check(item, budget) for check, item in zip(checks, value, strict=None))",
            "or all(check(item, budget) for check, item in zip(checks, value, ))",
        ],
    ),
    (
        f"{_CHECKS}.x_key_of",
        "the words of a key only have to differ",
        [
            'return ("XXboolXX", value)',
            'return ("BOOL", value)',
            'return ("XXlistXX", *(key_of(item, budget) for item in value))',
            'return ("LIST", *(key_of(item, budget) for item in value))',
            'return ("XXdictXX", frozenset((name, key_of(item, budget))'
            " for name, item in value.items()))",
            'return ("DICT", frozenset((name, key_of(item, budget))'
            " for name, item in value.items()))",
        ],
    ),
    (
        f"{_REQUESTS}.x__check_keys",
        "fewer keys than there are: they are looked at one by one, more slowly",
        [
            "+ (body.model_id is not None) - (body.model is not None)",
            "1 - (body.model_id is not None)",
            "duplicate_keys.check(content, given - duplicate_keys.count(body.input))",
            "duplicate_keys.check(content, given + duplicate_keys.count(None))",
        ],
    ),
    (
        f"{_REQUESTS}.x_parse_headers",
        "makes anew what is the same for all requests without headers",
        ["if prefer is cancel_after is key is not None:"],
    ),
    (
        f"{_CONTRACT}.quantities.x_as_quantity",
        "differs for infinity and NaN only, which are no amounts",
        ['return format(Decimal(repr(value)), "F").removesuffix(".0")'],
    ),
    (
        f"{_CONTRACT}.values.x_check",
        "the other branches check an integer too, more slowly",
        ["if type(None) is int:  # The most frequent by far."],
    ),
    (
        f"{_CONTRACT}.values.x_parse",
        "the cache is for speed",
        ["return from_json(data, )  # In half of json's time."],
    ),
    (
        f"{_CONTRACT}.values.x_shallow",
        "no token starts with an X",
        ['if first in b"XX[{XX":', 'elif first in b"XX]}XX":'],
    ),
    (
        f"{_CONTRACT}.values.x_shallow",
        "brackets are left open: neither result is JSON",
        ['return b"".join(kept) + data[start:] if depth < _SHALLOW else data'],
    ),
    (
        f"{_CONTRACT}.values.x_text",
        "one codec, two spellings",
        [
            'return value.encode("utf-16", "surrogatepass").decode("UTF-16", "replace")',
            'return value.encode("UTF-16", "surrogatepass").decode("utf-16", "replace")',
        ],
    ),
    (
        f"{_CONTRACT}.inferencemodel.xǁInferenceModelSpecǁrunner_hash",
        "the fields hold JSON only",
        ["content = self.model_dump(mode=None, include=fields)"],
    ),
]
EQUIVALENT = {(function, line) for function, _reason, lines in _LISTED for line in lines}
