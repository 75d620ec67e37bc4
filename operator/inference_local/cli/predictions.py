"""`inference predictions`: list, show and cancel predictions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from inference_contract.predictions import PredictionStatus
from inference_local.cli.context import DEFAULT_HOME, HomeOption, api, out
from inference_local.cli.terminal import dumps
from inference_local.home import Home

app = typer.Typer(help="Predictions, newest first.", invoke_without_command=True)

COLUMNS = ("ID", "MODEL", "STATUS", "CREATED", "SECONDS")


@app.callback()
def list_predictions(
    context: typer.Context,
    status: Annotated[PredictionStatus | None, typer.Option(help="Of this status only.")] = None,
    model: Annotated[str | None, typer.Option(help="Of this model only: owner/name.")] = None,
    limit: Annotated[int, typer.Option("-n", min=1, help="Maximum number.")] = 20,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    if context.invoked_subcommand is not None:
        return
    from inference_local.cli.render import table

    given = {"status": status.value if status else None, "model": model}
    wanted = {key: value for key, value in given.items() if value}
    found = list(api(Home(home)).pages("/v1/predictions", limit, **wanted))
    if not found:
        out("no predictions")
        return
    table(COLUMNS, [row(prediction) for prediction in found])


@app.command("get")
def get_prediction(prediction_id: str, home: HomeOption = DEFAULT_HOME) -> None:
    """Everything about one prediction, as JSON."""
    found = api(Home(home)).call("GET", f"/v1/predictions/{prediction_id}")
    out(dumps(found, indent=2))


@app.command("cancel")
def cancel_prediction(prediction_id: str, home: HomeOption = DEFAULT_HOME) -> None:
    """Cancel a prediction; one that has ended is not changed."""
    answer = api(Home(home)).call("POST", f"/v1/predictions/{prediction_id}/cancel")
    is_over = PredictionStatus(answer["status"]).is_terminal
    out(f"{prediction_id} {answer['status'] if is_over else 'is being canceled'}")


def row(prediction: dict[str, Any]) -> tuple[str, ...]:
    from inference_local.cli.render import ago

    seconds = (prediction["metrics"] or {}).get("predict_time")
    return (
        prediction["id"],
        prediction["model"],
        prediction["status"],
        ago(prediction["created_at"]),
        f"{seconds:.2f}" if seconds is not None else "-",
    )
