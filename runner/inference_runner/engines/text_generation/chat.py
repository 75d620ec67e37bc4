"""A request's prompt or messages, as the model's chat template takes them. Pure.

Messages are as OpenAI's API has them: roles, and contents that are texts or lists of parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference_runner.engines import inputs as read_inputs
from inference_runner.engines.base import InputError

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
"""What a message may be from, and what templates call it."""


def messages(inputs: Mapping[str, Any]) -> list[dict[str, str]]:
    """The conversation that a chat model goes on with.

    Raises:
        InputError: if there are not prompt or messages, or they are not what they shall be.
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
    """For a model that has no chat template. Raises InputError."""
    for name in ("messages", "system_prompt"):
        if inputs.get(name) is not None:
            raise InputError(f"this model has no chat template: it takes prompt, not {name}")
    return read_inputs.text(inputs, "prompt")


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise InputError(f"{where} must be an object with role and content")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InputError(f"{where}.role must be one of: {', '.join(ROLES)}")
    return {"role": ROLES[role], "content": _content(message.get("content"), f"{where}.content")}


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
