"""Mutants that change nothing a test could see: by function, the changed line and the reason.

A mutant's number is not its name here: it changes with each edit of the function.
"""

from __future__ import annotations

_INPUTS = "inference_gateway.models.inputs"
_VALUES = "inference_contract.values"

EQUIVALENT: dict[tuple[str, str], str] = {
    (f"{_INPUTS}.budget.xǁThreadBudgetǁ_more", "if time.thread_time() >= self._until:"): (
        "a nanosecond more or less"
    ),
    (
        f"{_INPUTS}.checker.xǁInputCheckerǁ_errors",
        "if not self._required < value.keys():",
    ): "looks for what is missing, more slowly, and finds nothing",
    (
        f"{_INPUTS}.checker.x__compile",
        "return checks[0] if (len(checks) == 1) and False else _first_of(checks)",
    ): "the first of one is that one; without the call it is faster",
    (
        f"{_INPUTS}.checker.x__enum_check",
        "keys = {key_of(member, Budget(1000001)) for member in enum}",
    ): "no document holds so many values",
    (f"{_VALUES}.x_check", "if type(None) is int:  # The most frequent by far."): (
        "the other branches check an integer too, more slowly"
    ),
    (f"{_VALUES}.x_parse", "return from_json(data, )  # In half of json's time."): (
        "the cache is for speed"
    ),
    (f"{_VALUES}.x_shallow", 'if first in b"XX[{XX":'): "no token starts with an X",
    (f"{_VALUES}.x_shallow", 'elif first in b"XX]}XX":'): "no token starts with an X",
    (
        f"{_VALUES}.x_shallow",
        'return b"".join(kept) + data[start:] if depth < _SHALLOW else data',
    ): "brackets are left open: neither result is JSON",
    (
        f"{_VALUES}.x_text",
        'return value.encode("utf-16", "surrogatepass").decode("UTF-16", "replace")',
    ): "one codec, two spellings",
    (
        f"{_VALUES}.x_text",
        'return value.encode("UTF-16", "surrogatepass").decode("utf-16", "replace")',
    ): "one codec, two spellings",
    (
        "inference_contract.inferencemodel.xǁInferenceModelSpecǁrunner_hash",
        "content = self.model_dump(mode=None, include=fields)",
    ): "the fields hold JSON only",
}
