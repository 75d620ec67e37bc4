"""Administrators' queries on accounts. Every function blocks: call it on a thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, delete, func, select, text, update

from inference_gateway.auth.passwords import UNUSABLE
from inference_gateway.errors import Conflict, NotFound
from inference_gateway.postgres.tables import OPEN, ApiToken, User


@dataclass(frozen=True)
class UserInfo:
    id: UUID
    username: str
    email: str
    is_admin: bool
    created_at: datetime
    disabled_at: datetime | None


_INFO = (User.id, User.username, User.email, User.is_admin, User.created_at, User.disabled_at)
_ADMINISTRATORS = (
    select(User.id)
    .where(User.is_admin, User.disabled_at.is_(None), User.deleted_at.is_(None))
    .order_by(User.id)
    .with_for_update()
)
_CANCEL = text(f"""
UPDATE predictions SET cancel_requested_at = now()
WHERE {OPEN} AND owner = :owner AND cancel_requested_at IS NULL
""")  # noqa: S608 - a constant of ours
# Steps from owner to owner in the index of open predictions: a scan of all would cost too much.
_CANCEL_OWNERLESS = text(f"""
WITH RECURSIVE owners AS (
  (SELECT owner FROM predictions WHERE {OPEN} ORDER BY owner LIMIT 1)
  UNION ALL
  SELECT (SELECT p.owner FROM predictions p WHERE {OPEN} AND p.owner > owners.owner
    ORDER BY p.owner LIMIT 1)
  FROM owners WHERE owners.owner IS NOT NULL
)
UPDATE predictions SET cancel_requested_at = now()
WHERE {OPEN} AND cancel_requested_at IS NULL AND owner IN (
  SELECT owner FROM owners
  WHERE owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM users WHERE users.id = owners.owner)
)
""")  # noqa: S608 - constants of ours
_DELETED = text("""
SELECT id, username, deleted_at < now() - interval '1 minute' AS is_late FROM users
WHERE deleted_at IS NOT NULL AND settled_at IS NULL
""")


@dataclass(frozen=True)
class DeletedAccount:
    id: UUID
    username: str
    is_late: bool
    """Whether every gateway has known of the deletion for so long that nothing new can come."""


def list_users(engine: Engine, after: str, limit: int) -> Sequence[UserInfo]:
    """Accounts by name, without deleted ones."""
    statement = select(*_INFO).where(User.deleted_at.is_(None), User.username > after)
    with engine.connect() as connection:
        rows = connection.execute(statement.order_by(User.username).limit(limit))
        return [UserInfo(*row) for row in rows]


def get(engine: Engine, username: str) -> UserInfo:
    """Raises NotFound."""
    with engine.connect() as connection:
        return _get(connection, username)


def change(
    engine: Engine, username: str, *, is_admin: bool | None, disabled: bool | None
) -> UserInfo:
    """Change an account. Disabling ends its access tokens for good; its API tokens work again once
    it is enabled.

    Raises:
        NotFound
        Conflict: the last administrator would be lost.
    """
    with engine.begin() as connection:
        administrators = connection.execute(_ADMINISTRATORS).scalars().all()
        user = _get(connection, username)
        if is_admin is False or disabled:
            _not_the_last(administrators, user)
        values: dict[str, object] = {}
        if is_admin is not None:
            values["is_admin"] = is_admin
        if disabled is not None and disabled is not (user.disabled_at is not None):
            values["disabled_at"] = func.now() if disabled else None
            values["token_version"] = User.token_version + 1
        if values:
            connection.execute(update(User).where(User.id == user.id).values(values))
        return _get(connection, username)


def remove(engine: Engine, username: str) -> UUID:
    """Delete an account. Its row stays, without personal data and secrets, so that its name cannot
    be used again.

    Raises:
        NotFound
        Conflict: the last administrator would be lost.
    """
    with engine.begin() as connection:
        administrators = connection.execute(_ADMINISTRATORS).scalars().all()
        user = _get(connection, username)
        _not_the_last(administrators, user)
        values = {
            "email": f"{user.id}@deleted.invalid",
            "password_hash": UNUSABLE,
            "webhook_secret": "",
            "is_admin": False,
            "token_version": User.token_version + 1,
            "deleted_at": func.now(),
        }
        connection.execute(update(User).where(User.id == user.id).values(values))
        connection.execute(delete(ApiToken).where(ApiToken.user_id == user.id))
    return user.id


def deleted_accounts(engine: Engine) -> list[DeletedAccount]:
    """Deleted accounts that may still have models or open predictions."""
    with engine.connect() as connection:
        return [DeletedAccount(*row) for row in connection.execute(_DELETED)]


def cancel_predictions(engine: Engine, owner: UUID) -> int:
    """Request the cancel of all open predictions; dispatch ends them. Returns their number."""
    with engine.begin() as connection:
        return connection.execute(_CANCEL, {"owner": owner}).rowcount


def cancel_ownerless_predictions(engine: Engine) -> int:
    """The same for predictions without account, whose row was removed with `psql`."""
    with engine.begin() as connection:
        return connection.execute(_CANCEL_OWNERLESS).rowcount


def settled(engine: Engine, user_id: UUID) -> None:
    statement = update(User).where(User.id == user_id).values(settled_at=func.now())
    with engine.begin() as connection:
        connection.execute(statement)


def _get(connection: Connection, username: str) -> UserInfo:
    statement = select(*_INFO).where(User.username == username, User.deleted_at.is_(None))
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise NotFound(f"no account {username}: GET /v1/users lists them")
    return UserInfo(*row)


def _not_the_last(administrators: Sequence[UUID], user: UserInfo) -> None:
    if list(administrators) == [user.id]:
        raise Conflict(f"{user.username} is the last administrator: make another one first")
