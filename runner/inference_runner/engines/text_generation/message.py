"""An assistant's message as output, in the shape of OpenAI's API.

Transformers' ResponseParser separates reasoning and tool calls from content while the text is
generated, by the tokenizer's `response_template`, or by the tags of most chat templates.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from transformers.utils.chat_parsing import ResponseParser

log = logging.getLogger(__name__)

_TAGS: dict[str, Any] = {
    "start_anchor_pattern": r"\A",
    "fields": {
        "reasoning": {"open": "<think>", "close": "</think>"},
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "content_args": {"allow_non_json": True},
        },
        "content": {},
    },
}
_REASONING = ("reasoning", "reasoning_content", "thinking")


def parser(template: dict[str, Any] | None, prompt: str, tools: list[Any]) -> Any:
    """
    Args:
        template: the tokenizer's `response_template`, if it has one.
        prompt: the output of the chat template; it may have opened the reasoning.
    """
    if template is not None:
        return ResponseParser(template, prompt, tools=tools)
    opened = "<think>" if prompt.rstrip().endswith("<think>") else ""
    return ResponseParser(_TAGS, opened, tools=tools)


class Message:
    """Collects one message; each added piece of text returns a delta.

    Args:
        id: of the request; ids of tool calls begin with it, so that a second attempt has the same.
        parser: None if the whole text is the message's content.
    """

    def __init__(self, id: str, parser: Any = None) -> None:
        self._id, self._parser = id, parser
        self._texts: dict[str, str] = {}
        self._calls: list[dict[str, Any]] = []
        self._spaces: dict[str, str] = {}
        """White space at the end of each field so far, not released yet."""
        self._unread = ""
        """Text of an incomplete tool call."""

    @property
    def has_tool_calls(self) -> bool:
        return bool(self._calls)

    def add(self, text: str, *, final: bool = False) -> dict[str, Any]:
        delta: dict[str, Any] = {}
        if self._parser is None:
            self._append(delta, "content", text)
            return delta
        try:
            events = self._parser.feed(text)
            events += self._parser.finalize()[1] if final else []
        except Exception as error:  # Not a valid tool call: the caller gets the text unchanged.
            log.info("what the model said cannot be read", extra={"error": str(error)})
            self._parser = None
            self._append(delta, "content", self._unread + text)
            return delta
        for event in events:
            self._take(delta, event)
        return delta

    def all(self) -> dict[str, Any]:
        """The message in the shape of OpenAI's API, with `reasoning`."""
        message = {"role": "assistant", "content": None, **self._texts}
        return {**message, "tool_calls": self._calls} if self._calls else message

    def _take(self, delta: dict[str, Any], event: dict[str, Any]) -> None:
        field = "reasoning" if event["field"] in _REASONING else event["field"]
        text = event.get("text", "")
        if field != "tool_calls":
            # White space at the ends belongs to the tags.
            text = self._spaces.get(field, "") + text
            text = text if field in self._texts else text.lstrip()
            said = text.rstrip()
            self._spaces[field] = text[len(said) :]
            self._append(delta, field, said)
        elif event["type"] == "region_close":
            self._unread = ""
            self._call(delta, event["value"])
        else:
            self._unread += text

    def _append(self, delta: dict[str, Any], field: str, text: str) -> None:
        if text:
            self._texts[field] = self._texts.get(field, "") + text
            delta[field] = delta.get(field, "") + text

    def _call(self, delta: dict[str, Any], value: Any) -> None:
        function = value.get("function", value) if isinstance(value, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            self._append(delta, "content", value if isinstance(value, str) else json.dumps(value))
            return
        arguments = function.get("arguments", {})
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        number = len(self._calls)
        call = {
            "id": f"call_{self._id}_{number}",
            "type": "function",
            "function": {"name": function["name"], "arguments": arguments},
        }
        self._calls.append(call)
        delta.setdefault("tool_calls", []).append({"index": number, **call})
