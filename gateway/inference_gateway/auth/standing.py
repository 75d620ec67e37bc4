"""The current state of callers' accounts and tokens: one query for all callers, twice a second.

So a request costs no query, and a token ends on every gateway within a second of the commit that
ends it, whether that came from another gateway, a command, or psql.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError

from inference_gateway.auth.accounts import Principal
from inference_gateway.background import set_aside

log = logging.getLogger(__name__)

_USERS = text("""
SELECT id::text, is_admin, token_version FROM users
WHERE id = ANY (CAST(:ids AS uuid[])) AND disabled_at IS NULL AND deleted_at IS NULL
""")
_TOKENS = text("""
SELECT id::text FROM api_tokens WHERE id = ANY (CAST(:ids AS uuid[])) AND revoked_at IS NULL
""")


class AccountState(NamedTuple):
    is_admin: bool
    token_version: int


@dataclass(frozen=True)
class Standing:
    accounts: dict[str, AccountState]
    """Existing, enabled accounts by id."""
    api_tokens: frozenset[str]
    """Ids of tokens that are not revoked."""

    def apply(self, principal: Principal) -> bool:
        """Update the caller's rights. Returns whether the caller is still valid."""
        account = self.accounts.get(principal.user_id)
        if account is None:
            return False
        if principal.api_token_id is None:
            if principal.token_version != account.token_version:
                return False
        elif principal.api_token_id not in self.api_tokens:
            return False
        principal.is_admin = account.is_admin
        return True


def read(engine: Engine, principals: Iterable[Principal]) -> Standing:
    """The standing of these callers. Blocks."""
    principals = list(principals)
    users = {principal.user_id for principal in principals}
    tokens = {p.api_token_id for p in principals if p.api_token_id is not None}
    try:
        return _read(engine, users, tokens)
    except (DataError, ValueError):  # One invalid id must not block the check of the others.
        set_aside.ITEMS.labels("standing").inc()
        log.exception("a caller has an id that is none: they may not go on")
        return _read(engine, set(filter(_is_id, users)), set(filter(_is_id, tokens)))


def _read(engine: Engine, users: set[str], tokens: set[str]) -> Standing:
    with engine.connect() as connection:
        rows = connection.execute(_USERS, {"ids": list(users)})
        accounts = {user_id: AccountState(is_admin, version) for user_id, is_admin, version in rows}
        alive: Iterable[str] = ()
        if tokens:
            alive = connection.execute(_TOKENS, {"ids": list(tokens)}).scalars()
        return Standing(accounts, frozenset(alive))


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
