"""What the server is held against: the same function called directly, and behind stock RQ.

`uvicorn peers:bare`, `uvicorn peers:stock_rq` and `rq worker`, in this folder.
"""

from __future__ import annotations

import os
from typing import Any

import redis
import rq
from fastapi import FastAPI
from pydantic import BaseModel

QUEUE = "bench"

bare = FastAPI()
stock_rq = FastAPI()


class EchoInput(BaseModel):
    text: str


class Create(BaseModel):
    model_id: str
    input: EchoInput


def echo(text: str) -> str:
    return text


@bare.post("/v1/predictions")
async def call(body: Create) -> dict[str, Any]:
    return {"model_id": body.model_id, "output": echo(body.input.text)}


_queue = rq.Queue(QUEUE, connection=redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://")))


@stock_rq.post("/v1/predictions")
def enqueue(body: Create) -> dict[str, Any]:
    """On FastAPI's threads, since RQ's client blocks."""
    result = _queue.enqueue("peers.echo", body.input.text).latest_result(timeout=30)
    return {"model_id": body.model_id, "output": result.return_value if result else None}
