"""`inference predict`: run one prediction and print its output."""

from __future__ import annotations

from typing import Annotated

import typer

from inference_local.cli.context import DEFAULT_HOME, HomeOption, api, out
from inference_local.cli.terminal import dumps
from inference_local.home import Home


def predict(
    model: Annotated[str, typer.Argument(help="owner/name, or the name of your own.")],
    pairs: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="key=value; may be repeated.")
    ] = None,
    files: Annotated[
        list[str] | None, typer.Option("--file", help="key=path: a file as a data: URL.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print output as it comes.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the prediction; with --stream, its events first.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Run a model. Ctrl-C cancels the prediction."""
    from inference_local.cli import follow, inputs
    from inference_local.cli.models import full_id

    client = api(Home(home))
    model_id = full_id(client, model)
    schema = client.call("GET", f"/v1/models/{model_id}").get("input_schema", {})
    body = {"model_id": model_id, "input": inputs.parse(pairs or [], files or [], schema)}
    with follow.created(client, body) as made:
        if not stream:
            ended = follow.until_ended(client, made)
        elif as_json:
            for event in follow.events(client, made):
                out(dumps({"event": event.event, "data": event.data}))
            ended = follow.recorded(client, made)
        else:
            follow.print_stream(client, made)
            ended = follow.recorded(client, made)
    if as_json:
        out(dumps(ended, indent=None if stream else 2))
    follow.require_success(ended)
    if not (stream or as_json):
        out(follow.text_of(ended["output"]))
