"""What pydantic finds is said in one way by gateway, operators and runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from inference_contract import field_errors

ROOT = Path(__file__).parents[2]


class Part(BaseModel):
    size: int


class Whole(BaseModel):
    port: int = Field(description="Where it listens.")
    name: str = "a"
    parts: list[Part] = []

    @field_validator("name")
    @classmethod
    def _is_short(cls, name: str) -> str:
        if len(name) > 3:
            raise ValueError("is too long")
        return name


def _refused(content: Any) -> ValidationError:
    with pytest.raises(ValidationError) as refused:
        Whole.model_validate(content)
    return refused.value


def test_every_field_by_its_dotted_path() -> None:
    error = _refused({"port": "secret", "name": "long", "parts": [{"size": 1}, {}]})
    assert field_errors.of(error) == [
        {
            "field": "port",
            "message": "Input should be a valid integer, unable to parse string as an integer",
        },
        {"field": "name", "message": "is too long"},
        {"field": "parts.1.size", "message": "Field required"},
    ]


def test_in_words() -> None:
    error = _refused({"port": 1, "name": "long", "parts": [{}]})
    assert field_errors.first(field_errors.of(error)) == "name: is too long"
    assert field_errors.all_of(error) == "name: is too long; parts.0.size: Field required"
    whole = field_errors.of(_refused([]))
    assert whole[0]["field"] == ""
    assert field_errors.first(whole) == whole[0]["message"]


def test_of_json_that_does_not_parse_no_position_is_a_field() -> None:
    details = [{"type": "json_invalid", "loc": ("body", 7), "msg": "JSON decode error"}]
    assert field_errors.from_details(details) == [{"field": "body", "message": "JSON decode error"}]


def test_a_line_for_each_setting_without_its_value() -> None:
    assert field_errors.of_settings(_refused({"name": "secret"}), Whole).splitlines() == [
        "PORT is not set (Where it listens)",
        "NAME is too long",
    ]
    line = field_errors.of_settings(_refused({"port": "secret"}), Whole)
    assert line.startswith("PORT should be a valid integer")
    assert "secret" not in line


def test_nobody_else_reads_what_pydantic_says() -> None:
    packages = [ROOT / name for name in ("crds", "gateway", "operator", "runner")]
    readers = {
        path.name
        for package in packages
        for path in package.rglob("*.py")
        if ".errors(" in path.read_text()
    }
    # FastAPI's own class, which holds pydantic's errors as a list.
    assert readers == {"field_errors.py", "error_handlers.py"}
