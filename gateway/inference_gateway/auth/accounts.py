"""Queries on users and their API tokens. Every function blocks: call it on a thread."""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from inference_contract.field_errors import FieldError
from inference_gateway.errors import Conflict
from inference_gateway.postgres.tables import ApiToken, User
from inference_gateway.quotas.metrics import REFUSED
from inference_gateway.quotas.refusal import QuotaExceeded

API_TOKEN_PREFIX = "inf_"  # noqa: S105 - a prefix, by which scanners recognise a leaked token


@dataclass(eq=False, slots=True)
class Principal:
    """The caller, by one token. All requests with the token share the object, so that a change of
    the account or the token affects running requests too."""

    user_id: str
    username: str
    is_admin: bool
    until: float = math.inf
    """Unix time at which the token expires."""
    token_version: int = 1
    """The account's token version when the access token was issued."""
    api_token_id: str | None = None
    """None for an access token."""
    is_ended: bool = False


@dataclass(frozen=True)
class Account:
    id: UUID
    username: str
    email: str
    password_hash: str
    is_admin: bool
    created_at: datetime
    token_version: int
    disabled_at: datetime | None


@dataclass(frozen=True)
class TokenInfo:
    id: UUID
    name: str
    created_at: datetime


_ACCOUNT = (
    User.id,
    User.username,
    User.email,
    User.password_hash,
    User.is_admin,
    User.created_at,
    User.token_version,
    User.disabled_at,
)


_HOLD_NAME = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 7219))")
"""The seed keeps it apart from other locks."""


def _account(row: Any) -> Account:
    return Account(*row)


def new_webhook_secret() -> str:
    """Standard Webhooks: `whsec_` and 24 to 64 bytes in standard base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@contextmanager
def name_held(engine: Engine, username: str) -> Iterator[str | None]:
    """The id of the account with this name. Inside the block the name cannot be registered."""
    mine = select(User.id).where(User.username == username, User.deleted_at.is_(None))
    with engine.begin() as connection:
        connection.execute(_HOLD_NAME, {"name": username})
        found = connection.execute(mine).scalar_one_or_none()
        yield None if found is None else str(found)


def create(
    engine: Engine,
    username: str,
    email: str,
    password_hash: str,
    *,
    is_admin: bool = False,
    check: Callable[[], None] | None = None,
) -> Account:
    """Create an account. A taken name is no error for PostgreSQL, whose log would quote the row.

    Args:
        check: called last, while the name is locked; an exception from it rolls back.

    Raises:
        Conflict: names the field that is taken.
    """
    statement = (
        insert(User)
        .values(
            username=username,
            email=email,
            password_hash=password_hash,
            is_admin=is_admin,
            webhook_secret=new_webhook_secret(),
        )
        .on_conflict_do_nothing()
        .returning(*_ACCOUNT)
    )
    with engine.begin() as connection:
        if check is not None:
            connection.execute(_HOLD_NAME, {"name": username})
        row = connection.execute(statement).one_or_none()
        if row is not None:
            if check is not None:
                check()
            return _account(row)
        taken = connection.execute(select(User.id).where(User.username == username)).first()
    field = "email" if taken is None else "username"
    errors: list[FieldError] = [{"field": f"body.{field}", "message": "is taken"}]
    raise Conflict(f"this {field} is taken: choose another", errors=errors)


def find(engine: Engine, username: str) -> Account | None:
    """None also if the account was deleted."""
    statement = select(*_ACCOUNT).where(User.username == username, User.deleted_at.is_(None))
    with engine.connect() as connection:
        row = connection.execute(statement).one_or_none()
    return _account(row) if row else None


def restore(engine: Engine, username: str) -> None:
    """Make an existing account an administrator, also if it was disabled or deleted."""
    kept = or_(User.deleted_at.is_not(None), User.disabled_at.is_not(None), ~User.is_admin)
    values = {
        "is_admin": True,
        "disabled_at": None,
        "deleted_at": None,
        "settled_at": None,
        "webhook_secret": new_webhook_secret(),
    }
    with engine.begin() as connection:
        connection.execute(update(User).where(User.username == username, kept).values(values))


def end_access_tokens(engine: Engine, user_id: str, password_hash: str | None = None) -> None:
    """End all access tokens of an account, and set a new password hash if one is given."""
    values: dict[str, Any] = {"token_version": User.token_version + 1}
    if password_hash is not None:
        values["password_hash"] = password_hash
    with engine.begin() as connection:
        connection.execute(update(User).where(User.id == UUID(user_id)).values(values))


def webhook_secret(engine: Engine, user_id: str) -> str | None:
    statement = select(User.webhook_secret).where(User.id == UUID(user_id))
    with engine.connect() as connection:
        return connection.execute(statement).scalar_one_or_none()


def create_api_token(
    engine: Engine, user_id: UUID | str, name: str, most: int = 0
) -> tuple[TokenInfo, str]:
    """Create a token. The second item is the token itself; it is not stored.

    Args:
        most: how many active tokens the account may have; 0: any number.

    Raises:
        QuotaExceeded
    """
    user = UUID(str(user_id))
    with engine.begin() as connection:
        if most:
            _within_quota(connection, user, most)
        return _new_api_token(connection, user, name)


def renew_api_token(engine: Engine, user_id: UUID, name: str) -> str:
    """Create a token and revoke all others with this name."""
    theirs = delete(ApiToken).where(ApiToken.user_id == user_id, ApiToken.name == name)
    with engine.begin() as connection:
        connection.execute(theirs)
        return _new_api_token(connection, user_id, name)[1]


def _new_api_token(connection: Connection, user_id: UUID, name: str) -> tuple[TokenInfo, str]:
    token = API_TOKEN_PREFIX + secrets.token_urlsafe(32)
    statement = (
        insert(ApiToken)
        .values(user_id=user_id, name=name, sha256=_sha256(token))
        .returning(ApiToken.id, ApiToken.name, ApiToken.created_at)
    )
    return TokenInfo(*connection.execute(statement).one()), token


def _within_quota(connection: Connection, user_id: UUID, most: int) -> None:
    """Raises QuotaExceeded. Concurrent requests are serialised by a lock on the account's row."""
    connection.execute(select(User.id).where(User.id == user_id).with_for_update())
    mine = ApiToken.user_id == user_id
    count = select(func.count()).where(mine, ApiToken.revoked_at.is_(None))
    if connection.execute(count).scalar_one() >= most:
        REFUSED.labels("api_tokens").inc()
        raise QuotaExceeded(
            f"Quota exceeded: you may have {most} API tokens (QUOTA_API_TOKENS). Revoke one with "
            "DELETE /v1/auth/tokens/{id}, or ask an administrator to raise it."
        )
    # As many revoked tokens are kept, to recognise callers that still use them.
    revoked = select(ApiToken.id).where(mine, ApiToken.revoked_at.is_not(None))
    oldest = revoked.order_by(ApiToken.revoked_at.desc()).offset(most)
    connection.execute(delete(ApiToken).where(ApiToken.id.in_(oldest)))


def list_api_tokens(engine: Engine, user_id: str) -> list[TokenInfo]:
    statement = (
        select(ApiToken.id, ApiToken.name, ApiToken.created_at)
        .where(ApiToken.user_id == UUID(user_id), ApiToken.revoked_at.is_(None))
        .order_by(ApiToken.created_at.desc())
    )
    with engine.connect() as connection:
        return [TokenInfo(*row) for row in connection.execute(statement)]


def revoke_api_token(engine: Engine, user_id: str, token_id: UUID) -> bool:
    """False if this user has no such token."""
    statement = (
        update(ApiToken)
        .where(
            ApiToken.id == token_id,
            ApiToken.user_id == UUID(user_id),
            ApiToken.revoked_at.is_(None),
        )
        .values(revoked_at=func.now())
    )
    with engine.begin() as connection:
        return connection.execute(statement).rowcount == 1


def find_token_owner(engine: Engine, token: str) -> Principal | None:
    """The owner of an API token. Does not check whether account and token are still valid."""
    statement = (
        select(User.id, User.username, ApiToken.id)
        .join(ApiToken, ApiToken.user_id == User.id)
        .where(ApiToken.sha256 == _sha256(token))
    )
    with engine.connect() as connection:
        row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    user_id, username, token_id = row
    return Principal(str(user_id), username, is_admin=False, api_token_id=str(token_id))


def _sha256(token: str) -> bytes:
    # Fast on purpose: 256 random bits need no slow hash.
    return hashlib.sha256(token.encode()).digest()
