"""`inference models`: list, apply, delete."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inference_local.cli.context import DEFAULT_HOME, HomeOption, api, out
from inference_local.cli.errors import CliError
from inference_local.cli.terminal import program
from inference_local.home import Home

if TYPE_CHECKING:
    from inference_local.cli.api import Api

app = typer.Typer(help="Models of the server.", no_args_is_help=True)

COLUMNS = ("MODEL", "READY", "REPLICAS", "QUEUED", "REASON")


@app.command("list")
def list_models(home: HomeOption = DEFAULT_HOME) -> None:
    """List the models that you may use, with their state."""
    from inference_local.cli.render import table

    rows = [row(model) for model in api(Home(home)).pages("/v1/models", 10_000)]
    if not rows:
        out(f"no models yet: {program()} models apply -f FILE")
        return
    table(COLUMNS, rows)


@app.command("apply")
def apply_file(
    file: Annotated[Path, typer.Option("--file", "-f", help="An InferenceModel; `-` reads stdin.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Create the model of a YAML document, or replace its document."""
    model, change = apply(api(Home(home)), file)
    out(f"{model['id']} {change}")


@app.command("delete")
def delete_model(
    model: Annotated[str, typer.Argument(help="owner/name, or the name of your own.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Remove a model; its waiting predictions are canceled."""
    client = api(Home(home))
    model_id = full_id(client, model)
    client.call("DELETE", f"/v1/models/{model_id}")
    out(f"{model_id} deleted")


def row(model: dict[str, Any]) -> tuple[str, ...]:
    status = model["status"]
    ready = f"{status['ready_replicas']}/{status['replicas']}"
    queued = str(status["queued"] + status["in_flight"])
    reason = status["reason"] or "-"
    message = "" if status["ready"] or not status["message"] else f": {status['message']}"
    return model["id"], "yes" if status["ready"] else "no", ready, queued, f"{reason}{message}"


def full_id(client: Api, model: str) -> str:
    if "/" in model:
        return model
    return f"{client.call('GET', '/v1/account')['username']}/{model}"


def apply(client: Api, file: Path) -> tuple[dict[str, Any], str]:
    """PUT the document of a file.

    Returns:
        The model, and `created`, `configured` or `unchanged`.

    Raises:
        CliError: if the file is not a document, or the server refuses it.
    """
    document = read(file)
    metadata = document.setdefault("metadata", {})
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise CliError(f"{file}: metadata.name is missing")
    if not metadata.get("namespace"):
        metadata["namespace"] = client.call("GET", "/v1/account")["username"]
    folder = Path.cwd() if file == Path("-") else file.absolute().parent
    resolve_path(document, folder)
    path = f"/v1/models/{metadata['namespace']}/{metadata['name']}"
    before = _generation(client, path)
    reply = client.reply("PUT", path, json=document)
    model = reply.json_or_none()
    if reply.status == 201:
        return model, "created"
    return model, "unchanged" if model["generation"] == before else "configured"


def _generation(client: Api, path: str) -> int | None:
    try:
        generation: int | None = client.call("GET", path).get("generation")
    except CliError:  # The model does not exist, or the PUT will report the error.
        return None
    return generation


def read(file: Path) -> dict[str, Any]:
    """Raises CliError."""
    from inference_operator.local import documents

    try:
        with sys.stdin.buffer if file == Path("-") else file.open("rb") as source:
            text = source.read(documents.MAX_BYTES + 1)
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}") from error
    if len(text) > documents.MAX_BYTES:
        raise CliError(f"{file} has more than {documents.MAX_BYTES} bytes")
    try:
        return documents.load(text)
    except ValueError as error:
        raise CliError(f"{file}: {error}") from error


def resolve_path(document: dict[str, Any], folder: Path) -> None:
    """Make a relative source.path absolute: it is relative to the document's folder."""
    spec = document.get("spec")
    source = spec.get("source") if isinstance(spec, dict) else None
    path = source.get("path") if isinstance(source, dict) else None
    if isinstance(source, dict) and isinstance(path, str) and path:
        source["path"] = str((folder / Path(path).expanduser()).resolve())
