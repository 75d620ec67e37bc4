"""Bodies of the account routes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from inference_contract.inferencemodel import NAME_PATTERN

RESERVED = frozenset(
    {"account", "admin", "administrator", "api", "auth", "default", "docs", "health", "inference"}
    | {"internal", "kube-node-lease", "kube-public", "kube-system", "metrics", "models"}
    | {"openai", "predictions", "public", "root", "system", "v1", "webhooks"}
)
"""A username becomes the owner of models: a folder here, a namespace on Kubernetes."""


def is_reserved(name: str) -> bool:
    """Whether only an administrator can create an account with this name."""
    return name in RESERVED or name.startswith("kube-")


def _not_reserved(name: str) -> str:
    if is_reserved(name):
        raise ValueError("is reserved: choose another")
    return name


Username = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN,
        max_length=40,
        json_schema_extra={"not": {"anyOf": [{"enum": sorted(RESERVED)}, {"pattern": "^kube-"}]}},
    ),
    AfterValidator(_not_reserved),
]
"""A DNS label of at most 40 characters."""


# Spaces and control characters by number: clients read this pattern, and `\s` differs by language.
_MAIL_PART = r"[^@\s\x00-\x1f\x7f-\x9f\ufeff]+"
NO_NUL = r"^[^\x00]*$"
"""PostgreSQL's text type accepts every character but U+0000."""


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Registration(_In):
    username: Username
    # The pattern catches typing errors only; no message is sent to check the address.
    email: str = Field(pattern=f"^{_MAIL_PART}@{_MAIL_PART}$", max_length=254)
    password: str = Field(min_length=8, max_length=128)


class NewUser(Registration):
    username: Annotated[str, Field(pattern=NAME_PATTERN, max_length=40)]
    is_admin: bool = False


class UserChange(_In):
    is_admin: StrictBool | None = None
    disabled: StrictBool | None = None


class UserOut(BaseModel):
    id: UUID
    username: str
    email: str
    is_admin: bool
    disabled: bool
    created_at: datetime
    disabled_at: datetime | None


class UserPage(BaseModel):
    next: str | None
    """The URL of the page that follows."""
    previous: None = None
    results: list[UserOut]


class Registered(BaseModel):
    id: UUID
    username: str
    email: str
    created_at: datetime


class NewPassword(_In):
    current: str = Field(max_length=1024)
    new: str = Field(min_length=8, max_length=128)


class AccessToken(BaseModel):
    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a scheme
    expires_in: int
    """Seconds."""


class AccountOut(BaseModel):
    """Replicate's account."""

    type: Literal["user"] = "user"
    username: str
    name: str
    github_url: str | None = None


class NewApiToken(_In):
    name: str = Field("token", min_length=1, max_length=100, pattern=NO_NUL)


class ApiTokenOut(BaseModel):
    id: UUID
    name: str
    created_at: datetime


class ApiTokenCreated(ApiTokenOut):
    token: str
    """Shown this once."""


class WebhookSecret(BaseModel):
    key: str
