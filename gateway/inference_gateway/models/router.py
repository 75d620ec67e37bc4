"""Routes of models."""

from __future__ import annotations

import base64
from asyncio import sleep, to_thread
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from inference_contract.inferencemodel import InferenceModel
from inference_gateway.auth import accounts
from inference_gateway.auth.accounts import Principal
from inference_gateway.auth.dependencies import AppServices, CurrentUser, OptionalUser
from inference_gateway.auth.schemas import is_reserved
from inference_gateway.errors import Conflict, Forbidden, Invalid, NotFound, raises
from inference_gateway.http.body_limit import MAX_DOCUMENT_VALUES, SMALL_BYTES, check_values
from inference_gateway.http.strict_routes import check_keys
from inference_gateway.models.catalog import CatalogModel, Entry, belongs_to, may_read
from inference_gateway.models.permissions import require_may_write
from inference_gateway.models.schemas import NewModel, parse_document, parse_new_model
from inference_gateway.models.wire import ModelOut, ModelPage, entry_out
from inference_gateway.services import Services

router = APIRouter(prefix="/v1/models", tags=["models"])


def _body(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_LOCATION = {"Location": {"schema": {"type": "string"}, "description": "Its path."}}


@router.post(
    "",
    status_code=201,
    responses={201: {"headers": _LOCATION, "description": "It is registered."}},
    openapi_extra=_body(NewModel),
)
@raises(Forbidden, Conflict, Invalid)
async def create_model(
    request: Request,
    response: Response,
    user: CurrentUser,
    services: AppServices,
) -> ModelOut:
    """Register a model, by the short form or by a whole InferenceModel document."""
    model = await _parsed(request, user, services, partial(parse_new_model, owner=user.username))
    require_may_write(user, model)
    async with services.model_quotas.turn(user, model):
        made = await to_thread(_write, services, user, model, services.catalog.create)
    response.headers["Location"] = f"/v1/models/{made.id}"
    return await _shown(made, request, user, services)


@router.get("", response_model=ModelPage)
@raises(Invalid)
async def list_models(
    request: Request,
    user: OptionalUser,
    services: AppServices,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
) -> Response:
    """Public models, and your own; for administrators all."""
    after = _decode_cursor(cursor) if cursor else ""
    entries = services.catalog.visible(user)
    page = [entry for entry in entries if entry.id > after][: limit + 1]
    base_url = services.base_url(request)
    runs = await services.runs.get()
    results: list[orjson.Fragment] = []
    size = 0
    for entry in page[:limit]:
        if size >= services.settings.max_page_bytes:
            break
        shown = entry_out(entry, base_url, user, runs.get(entry.id, 0))
        content = orjson.dumps(shown, option=orjson.OPT_UTC_Z)
        results.append(orjson.Fragment(content))
        size += len(content)
        if len(content) > SMALL_BYTES:
            await sleep(0)  # Yield: a document of 1 MB takes some milliseconds.
    following = None
    if len(page) > len(results):
        token = base64.urlsafe_b64encode(page[len(results) - 1].id.encode()).decode()
        following = f"{base_url}/v1/models?limit={limit}&cursor={token}"
    found = orjson.dumps({"next": following, "previous": None, "results": results})
    return Response(found, media_type="application/json")


@router.get("/{owner}/{name}")
@raises(NotFound)
async def get_model(
    owner: str, name: str, request: Request, user: OptionalUser, services: AppServices
) -> ModelOut:
    entry = _visible(services, f"{owner}/{name}", user)
    return await _shown(entry, request, user, services)


@router.put(
    "/{owner}/{name}",
    responses={201: {"model": ModelOut, "description": "It was not there before."}},
    openapi_extra=_body(InferenceModel),
)
@raises(Forbidden, NotFound, Conflict, Invalid)
async def put_model(
    owner: str,
    name: str,
    request: Request,
    response: Response,
    user: CurrentUser,
    services: AppServices,
) -> ModelOut:
    """Create the model, or replace its document: 201 or 200."""
    model = await _parsed(request, user, services, parse_document)
    if model.id != f"{owner}/{name}":
        message = f"is {model.id}, but the URL says {owner}/{name}"
        raise Invalid(
            f"body.metadata {message}", errors=[{"field": "body.metadata", "message": message}]
        )
    require_may_write(user, model)
    async with services.model_quotas.turn(user, model):
        try:
            made = await to_thread(_write, services, user, model, services.catalog.replace)
        except NotFound:
            made = await to_thread(_write, services, user, model, services.catalog.create)
            response.status_code = 201
    return await _shown(made, request, user, services)


@router.delete("/{owner}/{name}", status_code=204)
@raises(Forbidden, NotFound, Conflict)
async def delete_model(owner: str, name: str, user: CurrentUser, services: AppServices) -> Response:
    """Remove the model. What waits for it is canceled, what runs may finish."""
    model_id = f"{owner}/{name}"
    if not _is_theirs(_visible(services, model_id, user), user):
        raise Forbidden(f"model {model_id} is not yours")
    await to_thread(_delete, services, model_id)
    return Response(status_code=204)


def _delete(services: Services, model_id: str) -> None:
    services.catalog.delete(model_id)
    services.deleted_models.model_deleted(model_id)


async def _shown(
    entry: Entry, request: Request, user: Principal | None, services: Services
) -> ModelOut:
    runs = await services.runs.get()
    return entry_out(entry, services.base_url(request), user, runs.get(entry.id, 0))


def _visible(services: Services, model_id: str, user: Principal | None) -> Entry:
    """Raises NotFound."""
    entry = services.catalog.entry(model_id)
    if entry is not None and may_read(entry, user):
        return entry
    raise NotFound(f"no model {model_id}: GET /v1/models lists those you may use")


def _is_theirs(entry: Entry, user: Principal) -> bool:
    return user.is_admin or belongs_to(entry, user)


def _write(
    services: Services,
    user: Principal,
    model: InferenceModel,
    write: Callable[[InferenceModel, str | None], CatalogModel],
) -> CatalogModel:
    """Write with the id of the owner's account, if it exists. Blocks."""
    if is_reserved(model.owner):
        return write(model, None)  # Only administrators can use such a name.
    if model.owner == user.username:
        return write(model, user.user_id)
    with accounts.name_held(services.engine, model.owner) as owner_id:
        return write(model, owner_id)


async def _parsed(
    request: Request,
    user: Principal,
    services: Services,
    parse: Callable[[Any], InferenceModel],
) -> InferenceModel:
    """Parse the document in the body, one at a time on a thread: each takes up to 100 ms.

    Raises:
        Invalid, TooLarge, TooManyRequests, Unavailable
    """
    content = await request.body()
    return await services.catalog.checks.run(user.user_id, lambda: parse(_json(content)))


def _json(content: bytes) -> Any:
    """Strict JSON: no NaN and no lone surrogates, which a document cannot hold.

    Raises:
        Invalid, TooLarge
    """
    check_values(content, MAX_DOCUMENT_VALUES)
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        message = f"is not JSON: {error}"
        raise Invalid(f"body {message}", errors=[{"field": "body", "message": message}]) from error
    check_keys(content, document)
    return document


def _decode_cursor(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor).decode()
    except ValueError as error:
        raise Invalid(
            "query.cursor is not one of ours: take `next` of a page",
            errors=[{"field": "query.cursor", "message": "is not a cursor"}],
        ) from error
