"""The example of `inference up`: apply a model and run one prediction."""

from __future__ import annotations

from pathlib import Path

from inference_local.cli import follow
from inference_local.cli.context import api, out
from inference_local.cli.models import apply
from inference_local.home import Home

PROMPT = "Tell me one interesting fact about the sea."
MAX_NEW_TOKENS = 60


def show(home: Home, document: Path) -> str:
    """Apply the document and stream one prediction; only once for each state of the document.

    Returns:
        The model's id.

    Raises:
        CliError: if the model cannot be loaded.
    """
    client = api(home)
    model, change = apply(client, document)
    model_id = str(model["id"])
    shown = [model_id, model["generation"]]
    if home.instance().get("example") == shown:
        return model_id
    out(f"model {model_id} {change}")
    body = {"prompt": PROMPT, "max_new_tokens": MAX_NEW_TOKENS}
    out(f"> {PROMPT}")
    with follow.created(client, {"model_id": model_id, "input": body}) as made:
        follow.print_stream(client, made, give_up=True)
        ended = follow.recorded(client, made)
    follow.require_success(ended)
    home.choose(example=shown)
    return model_id
