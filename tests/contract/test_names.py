"""Names in Redis: they never collide, and they can be read back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_contract import queues
from inference_contract.inferencemodel import NAME_PATTERN

names = st.from_regex(NAME_PATTERN, fullmatch=True)
model_ids = st.builds("{}/{}".format, names, names)
prediction_ids = st.uuids().map(str)
attempts = st.integers(1, 10_000)


@given(model_ids)
def test_a_model_key_reads_back(model_id: str) -> None:
    assert queues.model_id(queues.model_key(model_id)) == model_id


@given(model_ids, prediction_ids, attempts)
def test_a_job_id_reads_back(model_id: str, prediction_id: str, attempt: int) -> None:
    key = queues.model_key(model_id)
    job_id = queues.job_id(key, prediction_id, attempt)
    assert queues.parse_job_id(job_id) == (key, prediction_id, attempt)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", job_id), "RQ allows nothing else"


@given(model_ids, st.from_regex(r"[a-z0-9.-]+", fullmatch=True))
def test_a_worker_name_reads_back(model_id: str, replica: str) -> None:
    key = queues.model_key(model_id)
    assert queues.parse_worker_name(queues.worker_name(key, replica)) == (key, replica)


@pytest.mark.parametrize("value", ["", "worker-1", "alice_m"])
def test_what_is_no_worker_of_ours_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="unpack"):
        queues.parse_worker_name(value)


@given(model_ids, model_ids, prediction_ids, prediction_ids)
def test_no_two_models_share_a_key(one: str, other: str, first: str, second: str) -> None:
    def keys(model_id: str, prediction_id: str) -> set[str]:
        key = queues.model_key(model_id)
        kinds = (queues.queue_key, queues.in_flight_key, queues.cancel_key, queues.events_key)
        job = queues.job_key(queues.job_id(key, prediction_id, 1))
        return {*(kind(key) for kind in kinds), queues.stream_key(key, prediction_id), job}

    assert len(keys(one, first)) == 6
    if one != other:
        assert not keys(one, first) & keys(other, second)
    assert queues.DOORBELL not in keys(one, first)


@pytest.mark.parametrize("value", ["", "alice_m", "alice_m_id_first", "no-underscore"])
def test_what_is_no_job_id_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        queues.parse_job_id(value)


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "a" * 41, "é", "a\n", "a b"]
)
def test_what_no_owner_and_no_model_can_be_called(name: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from inference_contract.inferencemodel import Name

    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)
