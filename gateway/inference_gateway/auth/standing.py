"""What callers may still do: asked of the database for all of them at once, twice a second.

So a request costs no query, and a token ends on every gateway within a second of the commit that
ends it, whoever made that: another gateway, a command, or somebody with psql.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, Engine, text

from inference_gateway.auth.accounts import Principal

_USERS = text("""
SELECT id::text, is_admin, token_version FROM users
WHERE id = ANY (CAST(:ids AS uuid[])) AND disabled_at IS NULL AND deleted_at IS NULL
""")
_TOKENS = text("""
SELECT id::text FROM api_tokens WHERE id = ANY (CAST(:ids AS uuid[])) AND revoked_at IS NULL
""")


class Account(NamedTuple):
    is_admin: bool
    token_version: int


@dataclass(frozen=True)
class Standing:
    accounts: dict[str, Account]
    """By id: those that are there, and not disabled."""
    api_tokens: frozenset[str]
    """Ids: those that are not revoked."""

    def apply(self, principal: Principal) -> bool:
        """Whether the caller may go on, with the rights that they now have."""
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
    """Of these callers. Blocks."""
    principals = list(principals)
    with engine.connect() as connection:
        return _read(
            connection,
            {principal.user_id for principal in principals},
            {p.api_token_id for p in principals if p.api_token_id is not None},
        )


def _read(connection: Connection, users: set[str], tokens: set[str]) -> Standing:
    rows = connection.execute(_USERS, {"ids": list(users)})
    accounts = {user_id: Account(is_admin, version) for user_id, is_admin, version in rows}
    alive: Iterable[str] = ()
    if tokens:
        alive = connection.execute(_TOKENS, {"ids": list(tokens)}).scalars()
    return Standing(accounts, frozenset(alive))
