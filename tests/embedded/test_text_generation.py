"""What a request may ask of text generation, through the whole server: SmolLM2 by HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import event_stream
import jsonschema
import pytest

SYSTEM = "You are a helpful assistant who answers every question about the weather in one sentence."
CONVERSATION = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": "What is the weather like in Paris?"},
    {"role": "assistant", "content": "It is sunny."},
    {"role": "user", "content": [{"type": "text", "text": "And in Rome?"}]},
]


def _streamed(client: Any, made: dict[str, Any]) -> list[str]:
    reply = client.http.get(made["urls"]["stream"], headers={"Accept": "text/event-stream"})
    events = event_stream.pairs(reply)
    assert events[-1] == ("done", "{}"), events
    return [data for name, data in events if name == "output"]


def test_a_conversation_is_answered_in_the_form_of_a_schema(client: Any, smollm2: str) -> None:
    schema = {
        "type": "object",
        "properties": {"sunny": {"type": "boolean"}, "degrees": {"enum": [10, 20, 30]}},
        "required": ["sunny", "degrees"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    asked = {"messages": CONVERSATION, "response_format": form, "max_new_tokens": 200}
    made = client.predict(smollm2, asked, wait=60)
    assert made["status"] == "succeeded"
    jsonschema.validate(json.loads(made["output"]), schema)
    metrics = made["metrics"]
    assert metrics["finish_reason"] == "stop"
    assert 40 < metrics["input_token_count"] < 120
    assert 5 < metrics["output_token_count"] < 200


def test_the_stream_of_a_conversation_is_its_text(client: Any, smollm2: str) -> None:
    made = client.predict(smollm2, {"messages": CONVERSATION, "max_new_tokens": 12})
    pieces = _streamed(client, made)
    assert len(pieces) > 1
    assert client.prediction(made["id"])["output"] == "".join(pieces)


def test_a_text_ends_before_a_stop_string(client: Any, smollm2: str) -> None:
    asked = {"prompt": "Count from one to ten.", "max_new_tokens": 16, "ignore_eos": True}
    whole = client.predict(smollm2, asked, wait=60)
    assert whole["metrics"]["finish_reason"] == "length"
    assert whole["metrics"]["output_token_count"] == 16
    middle = len(whole["output"]) // 2
    stop = whole["output"][middle : middle + 6]
    cut = client.predict(smollm2, {**asked, "stop": [stop]}, wait=60)
    assert cut["output"] == whole["output"].partition(stop)[0]
    assert cut["metrics"]["finish_reason"] == "stop"
    assert cut["metrics"]["output_token_count"] < 16


def test_several_texts_with_their_probabilities_are_an_object(client: Any, smollm2: str) -> None:
    asked = {"messages": CONVERSATION, "n": 2, "logprobs": 2, "temperature": 1.0, "seed": 5}
    made = client.predict(smollm2, {**asked, "max_new_tokens": 8, "ignore_eos": True})
    *pieces, whole = map(json.loads, _streamed(client, made))
    deltas = [choice for piece in pieces for choice in piece["choices"]]
    done = client.prediction(made["id"])
    assert whole == done["output"]
    choices = done["output"]["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert choices[0]["message"] != choices[1]["message"]
    for choice in choices:
        mine = [delta for delta in deltas if delta["index"] == choice["index"]]
        text = "".join(delta["delta"].get("content", "") for delta in mine)
        assert choice["message"] == {"role": "assistant", "content": text}
        told = [one for delta in mine for one in delta["logprobs"]["content"]]
        assert choice["logprobs"]["content"] == told
        assert [len(one["top_logprobs"]) for one in told] == [2] * 8
        assert choice["finish_reason"] == "length"
    assert done["metrics"]["finish_reason"] == "length"
    assert done["metrics"]["output_token_count"] == 16


def test_what_two_conversations_begin_with_is_read_once(client: Any, smollm2: str) -> None:
    system = f"Once upon a time there was a new system prompt. {SYSTEM}"
    asked = [
        {"prompt": prompt, "system_prompt": system, "max_new_tokens": 4}
        for prompt in ("Will it rain?", "Shall I take a coat?")
    ]
    first, second = (client.predict(smollm2, one, wait=60)["metrics"] for one in asked)
    assert first["cached_token_count"] < 16
    assert 16 < second["cached_token_count"] < second["input_token_count"]


def test_a_cancelled_object_is_left_as_its_deltas(
    client: Any, smollm2: str, wait_until: Callable[..., Any]
) -> None:
    asked = {"prompt": "Count.", "n": 2, "max_new_tokens": 2000, "ignore_eos": True}
    made = client.predict(smollm2, asked)
    wait_until(lambda: client.prediction(made["id"])["output"], timeout=20)
    client.http.post(made["urls"]["cancel"]).raise_for_status()
    ended = wait_until(
        lambda: (p := client.prediction(made["id"]))["completed_at"] and p, timeout=20
    )
    assert ended["status"] == "canceled"
    assert {choice["index"] for item in ended["output"] for choice in item["choices"]} == {0, 1}


@pytest.mark.parametrize("input", [{}, {"prompt": "Hi", "messages": CONVERSATION}])
def test_neither_or_both_of_prompt_and_messages_are_refused(
    client: Any, smollm2: str, input: dict[str, Any]
) -> None:
    reply = client.http.post("/v1/predictions", json={"model_id": smollm2, "input": input})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "input"
