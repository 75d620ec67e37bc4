"""Input parameters of a model, and their JSON Schema."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference_contract import item_schemas
from inference_contract.modeltype import ModelType

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


class Parameter(BaseModel):
    """One input: a JSON Schema keyword subset, plus whether it may be left out.

    A parameter without a default is required, unless `required` says otherwise.
    """

    model_config = ConfigDict(extra="forbid")

    type: Literal["string", "integer", "number", "boolean", "array", "object"]
    description: str = Field("", max_length=2000)
    default: Any = None
    required: bool | None = None
    enum: list[Any] | None = Field(None, min_length=1, max_length=1000)
    minimum: float | int | None = None
    maximum: float | int | None = None
    maxLength: int | None = Field(None, ge=0)  # noqa: N815 - JSON Schema's own spelling
    items: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _usable(self) -> Parameter:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("minimum must not exceed maximum")
        if self.items is not None:
            item_schemas.check(self.items)
        if self.default is not None and (wrong := problem(self, self.default)):
            raise ValueError(f"the default {wrong}")
        return self

    @property
    def is_required(self) -> bool:
        return self.default is None if self.required is None else self.required


def problem(parameter: Parameter, value: Any) -> str | None:
    """The error of a value, or None.

    For defaults, which all readers of a document must check in the same way. The gateway checks
    inputs by the same rules, with faster code.
    """
    name = parameter.type
    if type(value) not in _TYPES[name] and not (name == "integer" and is_whole(value)):
        return f"must be {'an' if name[0] in 'aio' else 'a'} {name}"
    if parameter.enum is not None and not any(same(value, member) for member in parameter.enum):
        return f"must be one of: {', '.join(map(str, parameter.enum[:20]))}"
    if type(value) in (int, float):
        if parameter.minimum is not None and value < parameter.minimum:
            return f"must be at least {parameter.minimum}"
        if parameter.maximum is not None and value > parameter.maximum:
            return f"must be at most {parameter.maximum}"
    longest = parameter.maxLength
    if longest is not None and isinstance(value, str) and len(value) > longest:
        return f"must have at most {longest} characters"
    if parameter.items is not None and isinstance(value, list):
        return _of_items(parameter.items, value)
    return None


def simple_items(schema: dict[str, Any]) -> Parameter | None:
    """`items` as a Parameter; None if they use keywords that a Parameter does not have."""
    if not {"default", "required"}.isdisjoint(schema):
        return None
    try:
        return Parameter.model_validate(schema)
    except ValidationError:
        return None


def is_whole(value: object) -> bool:
    """Whether a float is an integer of 64 bits by JSON Schema, as 2.0."""
    return type(value) is float and value.is_integer() and -(2**63) <= value < 2**64


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON, at any depth: 1 equals 1.0, but not true."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


def _of_items(schema: dict[str, Any], value: list[Any]) -> str | None:
    item_parameter = simple_items(schema)
    if item_parameter is None:
        return (
            "must be empty: what its items may be is checked with each input only"
            if value
            else None
        )
    for index, item in enumerate(value):
        if (message := problem(item_parameter, item)) is not None:
            return f"item {index} {message}"
    return None


def json_schema(parameters: dict[str, Parameter], one_of: tuple[str, ...] = ()) -> dict[str, Any]:
    """The JSON Schema (2020-12) of an `input` object; unknown names are refused.

    Args:
        one_of: names of which an input must have exactly one; none if empty.
    """
    properties: dict[str, Any] = {}
    for name, parameter in parameters.items():
        dumped = parameter.model_dump(exclude_none=True, exclude={"required"})
        properties[name] = {key: value for key, value in dumped.items() if value != ""}
    schema = {
        "type": "object",
        "properties": properties,
        "required": [name for name, p in parameters.items() if p.is_required],
        "additionalProperties": False,
    }
    return {**schema, "oneOf": [{"required": [name]} for name in one_of]} if one_of else schema


_TEXT_GENERATION = {
    "prompt": Parameter(
        type="string",
        required=False,
        description="Text, or one user turn for a chat model. Either this or messages.",
    ),
    "messages": Parameter(
        type="array",
        required=False,
        items={"type": "object"},
        description="A conversation: objects with role and content, as in OpenAI's API.",
    ),
    "system_prompt": Parameter(
        type="string", required=False, description="The system's message, before all others."
    ),
    "max_new_tokens": Parameter(type="integer", default=128, minimum=1, maximum=32_768),
    "min_new_tokens": Parameter(
        type="integer", default=0, minimum=0, description="Before them the text does not end."
    ),
    "ignore_eos": Parameter(
        type="boolean", default=False, description="Whether to go on after the end of the text."
    ),
    "temperature": Parameter(
        type="number", default=0.0, minimum=0, maximum=2, description="0 is greedy."
    ),
    "top_p": Parameter(type="number", default=1.0, minimum=0, maximum=1),
    "top_k": Parameter(type="integer", default=0, minimum=0, maximum=1000, description="0: all."),
    "min_p": Parameter(
        type="number",
        default=0.0,
        minimum=0,
        maximum=1,
        description="Least probability, as a part of the likeliest token's.",
    ),
    "repetition_penalty": Parameter(
        type="number",
        default=1.0,
        minimum=0.01,
        maximum=100,
        description="Of tokens in the prompt and the output; above 1 makes them rarer.",
    ),
    "frequency_penalty": Parameter(
        type="number",
        default=0.0,
        minimum=-2,
        maximum=2,
        description="Taken off a token's score for each time that the output has it.",
    ),
    "presence_penalty": Parameter(
        type="number",
        default=0.0,
        minimum=-2,
        maximum=2,
        description="Taken off the score of every token that the output has.",
    ),
    "seed": Parameter(type="integer", required=False, description="Default: from the id."),
    "stop": Parameter(type="array", required=False, items={"type": "string"}),
    "n": Parameter(
        type="integer",
        default=1,
        minimum=1,
        maximum=16,
        description="How many texts; above 1 the output is an object.",
    ),
    "logprobs": Parameter(
        type="integer",
        required=False,
        minimum=0,
        maximum=20,
        description="Tell each token's probability, and so many of the likeliest. The output is"
        " then an object.",
    ),
    "tools": Parameter(
        type="array",
        required=False,
        items={"type": "object"},
        description="What the model may call, as in OpenAI's API. The output is then an object.",
    ),
    "tool_choice": Parameter(type="string", default="auto", enum=["auto", "none"]),
    "response_format": Parameter(
        type="object",
        required=False,
        description="The output's form: an object whose type is text, json_object, json_schema"
        " (with json_schema.schema), regex or choice.",
    ),
}
_IMAGE = Parameter(type="string", description="A data: URL of a picture.")


class Interface(NamedTuple):
    """What models of a type take and give; the runner has an engine for each type."""

    inputs: dict[str, Parameter]
    """Unless the model's document has an inputSchema."""
    output: dict[str, Any]
    """JSON Schema."""
    one_of: tuple[str, ...] = ()
    """Of these inputs each request must have exactly one."""


_TEXT = {"type": "string"}
_TEXT_OR_CHOICES = {
    "anyOf": [
        _TEXT,
        {
            "type": "object",
            "description": "Where tools, logprobs or n above 1 were asked for.",
            "properties": {"choices": {"type": "array", "items": {"type": "object"}}},
            "required": ["choices"],
        },
    ]
}
_LABELS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"label": {"type": "string"}, "score": {"type": "number"}},
        "required": ["label", "score"],
    },
}
INTERFACES: dict[ModelType, Interface] = {
    ModelType.TEXT_GENERATION: Interface(
        _TEXT_GENERATION, _TEXT_OR_CHOICES, one_of=("prompt", "messages")
    ),
    ModelType.TEXT_TO_IMAGE: Interface(
        {
            "prompt": Parameter(type="string"),
            "num_inference_steps": Parameter(type="integer", default=20, minimum=1, maximum=500),
            "width": Parameter(type="integer", default=512, minimum=8, maximum=4096),
            "height": Parameter(type="integer", default=512, minimum=8, maximum=4096),
            "seed": Parameter(type="integer", required=False),
        },
        {"type": "string", "format": "uri"},
    ),
    ModelType.IMAGE_TO_TEXT: Interface(
        {
            "image": _IMAGE,
            "max_new_tokens": Parameter(type="integer", default=64, minimum=1, maximum=4096),
        },
        _TEXT,
    ),
    ModelType.CLASSIFICATION: Interface({"text": Parameter(type="string")}, _LABELS),
    ModelType.CUSTOM: Interface({}, {}),
}


def default_parameters(model_type: ModelType) -> dict[str, Parameter]:
    """The input parameters of a model of this type without inputSchema."""
    return INTERFACES[model_type].inputs
