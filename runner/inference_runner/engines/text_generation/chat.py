"""A request's prompt or messages, as the model's chat template takes them. Pure.

Messages are as OpenAI's API has them: roles, and contents that are texts or lists of parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inference_runner.engines import inputs as read_inputs
from inference_runner.engines.base import InputError

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
"""Roles of messages, and their names in templates."""


def messages(inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages of a request for a chat model.

    Raises:
        InputError: if prompt and messages are missing or not valid.
    """
    said = inputs.get("messages")
    if (said is None) == (inputs.get("prompt") is None):
        raise InputError("give either prompt or messages")
    if said is None:
        turns = [{"role": "user", "content": read_inputs.text(inputs, "prompt")}]
    elif isinstance(said, list) and said:
        turns = [_message(one, f"messages[{at}]") for at, one in enumerate(said)]
    else:
        raise InputError("messages must be a list of at least one message")
    if inputs.get("system_prompt") is None:
        return turns
    if any(turn["role"] == "system" for turn in turns):
        raise InputError("give either system_prompt or a message of the system")
    return [{"role": "system", "content": read_inputs.text(inputs, "system_prompt")}, *turns]


def plain_prompt(inputs: Mapping[str, Any]) -> str:
    """The prompt for a model without a chat template. Raises InputError."""
    for name in ("messages", "system_prompt", "tools"):
        if inputs.get(name) is not None:
            raise InputError(f"this model has no chat template: it takes prompt, not {name}")
    return read_inputs.text(inputs, "prompt")


def tools(inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools that the model may call. Raises InputError."""
    said, choice = inputs.get("tools"), inputs.get("tool_choice")
    if choice not in (None, "auto", "none"):
        raise InputError("tool_choice must be auto or none: no model is made to call a tool here")
    if said is None:
        return []
    if not isinstance(said, list):
        raise InputError("tools must be a list")
    for at, tool in enumerate(said):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InputError(f"tools[{at}] must be an object with a function that has a name")
    return [] if choice == "none" else said


def _message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise InputError(f"{where} must be an object with role and content")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InputError(f"{where}.role must be one of: {', '.join(ROLES)}")
    calls = message.get("tool_calls")
    if calls is None:
        return {
            "role": ROLES[role],
            "content": _content(message.get("content"), f"{where}.content"),
        }
    if role != "assistant" or not isinstance(calls, list):
        raise InputError(f"{where}.tool_calls must be a list, in a message of the assistant")
    said = message.get("content")
    return {
        "role": role,
        "content": "" if said is None else _content(said, f"{where}.content"),
        "tool_calls": [_call(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(calls)],
    }


def _call(call: Any, where: str) -> dict[str, Any]:
    """Templates take arguments as an object, not as its JSON."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InputError(f"{where} must be an object with a function that has a name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise InputError(f"{where}.function.arguments must be JSON") from None
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _content(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise InputError(f"{where} must be a string or a list of parts")
    return "\n".join(_part(part, f"{where}[{at}]") for at, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise InputError(f"{where} must be an object with type and text")
    if part["type"] != "text":
        raise InputError(f"{where}: this model reads text only, not {part['type']}")
    if not isinstance(part.get("text"), str):
        raise InputError(f"{where}.text must be a string")
    return str(part["text"])
