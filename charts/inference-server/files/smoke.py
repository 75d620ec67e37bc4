"""What `helm test` runs: the gateway is healthy and, if a model is named, a prediction succeeds."""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

URL, MODEL, INPUT, SECONDS = sys.argv[1:]


def call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Exits, with what the gateway says, unless it answers with a success."""
    headers = {"Content-Type": "application/json", "Prefer": "wait=60"}
    if token := os.environ.get("TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(URL + path, data, headers, method=method)  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=90) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{method} {path}: {error}")
    return answer


def predict() -> dict[str, Any]:
    """The prediction, ended or not, after at most SECONDS."""
    end = time.monotonic() + float(SECONDS)
    made = call("POST", "/v1/predictions", {"model_id": MODEL, "input": json.loads(INPUT)})
    while made["completed_at"] is None and time.monotonic() < end:
        time.sleep(1)
        made = call("GET", f"/v1/predictions/{made['id']}")
    return made


def health() -> dict[str, Any]:
    """As soon as all is well, or after a minute: what has just been installed may still start."""
    end = time.monotonic() + 60
    while (found := call("GET", "/health"))["status"] != "ok" and time.monotonic() < end:
        time.sleep(2)
    return found


state = health()
sys.stdout.write(f"{json.dumps(state)}\n")
if state["status"] != "ok":
    parts = state["dependencies"].items()
    sys.exit(
        "; ".join(f"{name}: {part['message']}" for name, part in parts if part["status"] != "ok")
    )
if MODEL:
    prediction = predict()
    sys.stdout.write(f"{json.dumps(prediction)}\n")
    if prediction["status"] != "succeeded":
        sys.exit(f"the prediction is {prediction['status']}")
