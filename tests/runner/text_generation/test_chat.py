"""A request's prompt or messages, and what is told of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from inference_runner.engines.base import InputError
from inference_runner.engines.text_generation import chat

HELLO = {"role": "user", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be short."}


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"prompt": "Hello"}, [HELLO]),
        ({"prompt": "Hello", "messages": None, "system_prompt": None}, [HELLO]),
        ({"prompt": "Hello", "system_prompt": "Be short."}, [SYSTEM, HELLO]),
        ({"messages": [HELLO]}, [HELLO]),
        ({"messages": [HELLO], "system_prompt": "Be short."}, [SYSTEM, HELLO]),
        ({"messages": [SYSTEM, HELLO]}, [SYSTEM, HELLO]),
        ({"messages": [{**SYSTEM, "role": "developer"}, HELLO]}, [SYSTEM, HELLO]),
        (
            {"messages": [HELLO, {"role": "assistant", "content": "Hi", "name": "a"}, HELLO]},
            [HELLO, {"role": "assistant", "content": "Hi"}, HELLO],
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]},
            [HELLO],
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                    }
                ]
            },
            [{"role": "user", "content": "a\nb"}],
        ),
    ],
)
def test_what_a_chat_template_is_given(inputs: dict[str, Any], expected: Any) -> None:
    assert chat.messages(inputs) == expected


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def test_calls_and_what_they_brought() -> None:
    encoded = {**CALL, "id": "1", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    conversation = [
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": [encoded]},
        {"role": "tool", "tool_call_id": "1", "content": "Sunny."},
    ]
    assert chat.messages({"messages": conversation}) == [
        HELLO,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "Sunny."},
    ]


def test_tools() -> None:
    assert chat.tools({}) == chat.tools({"tools": [TOOL], "tool_choice": "none"}) == []
    assert chat.tools({"tools": [TOOL], "tool_choice": "auto"}) == [TOOL]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"tools": TOOL}, "tools must be a list"),
        ({"tools": [TOOL, {}]}, "tools[1] must be an object with a function that has a name"),
        (
            {"tools": [TOOL], "tool_choice": "required"},
            "tool_choice must be auto or none: no model is made to call a tool here",
        ),
    ],
)
def test_what_are_no_tools(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        chat.tools(inputs)
    assert str(refused.value) == message


def said(content: Any) -> dict[str, Any]:
    return {"messages": [HELLO, {"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "give either prompt or messages"),
        ({"prompt": "Hello", "messages": [HELLO]}, "give either prompt or messages"),
        ({"prompt": 3}, "prompt must be a string"),
        ({"prompt": "Hello", "system_prompt": 3}, "system_prompt must be a string"),
        ({"messages": []}, "messages must be a list of at least one message"),
        ({"messages": "Hello"}, "messages must be a list of at least one message"),
        ({"messages": ["Hello"]}, "messages[0] must be an object with role and content"),
        (
            {"messages": [HELLO, {"content": "Hi"}]},
            "messages[1].role must be one of: system, developer, user, assistant, tool",
        ),
        (
            {"messages": [{"role": ["user"], "content": "Hi"}]},
            "messages[0].role must be one of: system, developer, user, assistant, tool",
        ),
        (
            {"messages": [SYSTEM, HELLO], "system_prompt": "Be long."},
            "give either system_prompt or a message of the system",
        ),
        (
            {"messages": [{**HELLO, "tool_calls": []}]},
            "messages[0].tool_calls must be a list, in a message of the assistant",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
            "messages[0].tool_calls[0] must be an object with a function that has a name",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"function": {"name": "a", "arguments": "{"}}],
                    }
                ]
            },
            "messages[0].tool_calls[0].function.arguments must be JSON",
        ),
        (said(None), "messages[1].content must be a string or a list of parts"),
        (said([]), "messages[1].content must be a string or a list of parts"),
        (said(["a"]), "messages[1].content[0] must be an object with type and text"),
        (said([{"text": "a"}]), "messages[1].content[0] must be an object with type and text"),
        (said([{"type": "text"}]), "messages[1].content[0].text must be a string"),
        (
            said([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]),
            "messages[1].content[1]: this model reads text only, not image_url",
        ),
    ],
)
def test_what_is_no_conversation(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        chat.messages(inputs)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"messages": [HELLO]}, "this model has no chat template: it takes prompt, not messages"),
        (
            {"prompt": "Hello", "system_prompt": "Be short."},
            "this model has no chat template: it takes prompt, not system_prompt",
        ),
        ({}, "prompt must be a string"),
    ],
)
def test_a_model_without_a_template_takes_a_prompt(inputs: dict[str, Any], message: str) -> None:
    assert chat.plain_prompt({"prompt": "Hello", "messages": None}) == "Hello"
    with pytest.raises(InputError) as refused:
        chat.plain_prompt(inputs)
    assert str(refused.value) == message
