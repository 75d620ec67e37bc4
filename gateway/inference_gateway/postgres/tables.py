"""The tables. PostgreSQL is the source of truth: Redis may lose all its data.

`migrations/` creates the same schema; a test compares the two.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from inference_contract.webhooks import ONCE
from inference_gateway.postgres import stored

OPEN = "status IN ('starting', 'processing')"
"""The predicate of the open-predictions index: queries must repeat it word for word."""
HELD = f"held AND {OPEN}"
"""The predicate of the held-predictions index."""


stored.register()


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "pk": "%(table_name)s_pkey",
        }
    )
    type_annotation_map = {
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
    }


class User(Base):
    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    username: Mapped[str] = mapped_column(unique=True)
    """Also the owner of the user's models: a DNS label."""
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    is_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    """May register models that run code or read paths of this machine."""
    webhook_secret: Mapped[str]
    """`whsec_…`: signs this user's webhooks."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    token_version: Mapped[int] = mapped_column(server_default=text("1"))
    """Part of each access token; raising it ends the tokens issued before."""
    disabled_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    """The row stays, so that its name cannot be used again."""
    settled_at: Mapped[datetime | None]
    """When the clean-up after a deleted account was complete."""

    __table_args__ = (
        Index(
            "users_leaving_idx",
            "deleted_at",
            postgresql_where=text("deleted_at IS NOT NULL AND settled_at IS NULL"),
        ),
    )


class ApiToken(Base):
    """A long-lived credential of a user; only its hash is kept."""

    __tablename__ = "api_tokens"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]


class Prediction(Base):
    __tablename__ = "predictions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """UUIDv7: ordered by creation, used as the cursor of pages."""
    owner: Mapped[UUID]
    """The id of the creator's account, not its name, which may be reused. No foreign key: it would
    cost every insert a lock on the account's row, and a row may outlive its owner."""
    model: Mapped[str]
    """`owner/name` of the model."""
    version: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="starting")
    attempt: Mapped[int] = mapped_column(server_default=text("1"))
    """The fence's number: raised whenever the work is handed out again."""
    token: Mapped[str]
    """The fence's secret, known to the current attempt alone."""
    crashes: Mapped[int] = mapped_column(server_default=text("0"))
    """Attempts that died while running."""
    input: Mapped[dict[str, Any]]
    input_bytes: Mapped[int] = mapped_column(server_default=text("0"))
    """Size as JSON, as in Redis."""
    held: Mapped[bool] = mapped_column(server_default=text("false"))
    """Not on its queue yet: its owner's inputs in Redis have reached their limit (`queued.py`)."""
    output: Mapped[Any | None] = mapped_column(JSONB)
    logs: Mapped[str] = mapped_column(server_default="")
    error: Mapped[str | None]
    error_code: Mapped[str | None]
    metrics: Mapped[dict[str, Any] | None]
    webhook: Mapped[str | None]
    webhook_events: Mapped[list[str] | None]
    base_url: Mapped[str | None]
    """The base URL of the creator's request, if there is a webhook."""
    idempotency_key: Mapped[str | None]
    request_hash: Mapped[str | None]
    """Hash of the body sent with the idempotency key."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    """While processing: the end of the lease. Set and compared by the database's clock only."""
    deadline: Mapped[datetime]
    cancel_requested_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(
            "status IN ('starting', 'processing', 'succeeded', 'failed', 'canceled')", "status"
        ),
        CheckConstraint(f"({OPEN}) = (completed_at IS NULL)", "completed"),
        Index("predictions_owner_id_idx", "owner", text("id DESC")),
        # The predicate names the states one by one: `completed_at IS NULL` made PostgreSQL scan
        # an index full of dead entries and tripled the cost of recording.
        Index("predictions_open_idx", "model", "id", postgresql_where=text(OPEN)),
        Index("predictions_open_owner_idx", "owner", postgresql_where=text(OPEN)),
        Index("predictions_held_idx", "owner", "model", "id", postgresql_where=text(HELD)),
        Index(
            "predictions_idempotency_idx",
            "owner",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )


LARGE = ("input", "output", "logs")
"""The columns of a prediction that may be large."""
BRIEF = ", ".join(name for name in Prediction.__table__.columns.keys() if name not in LARGE)  # noqa: SIM118


class AccountUsage(Base):
    """The stored bytes of an account, for its quota; counted by dispatch."""

    __tablename__ = "account_usage"

    owner: Mapped[UUID] = mapped_column(primary_key=True)
    stored_bytes: Mapped[int] = mapped_column(BigInteger)


class ModelUsage(Base):
    """The number of a model's predictions up to `last_id`; counted by dispatch."""

    __tablename__ = "model_usage"

    model: Mapped[str] = mapped_column(primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger)
    last_id: Mapped[UUID]
    """The newest counted prediction. The greatest of all models is the position of the count."""


class WebhookDelivery(Base):
    """One event for one receiver: sent at least once, under a stable id, for about a day."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    prediction_id: Mapped[UUID] = mapped_column(ForeignKey("predictions.id", ondelete="CASCADE"))
    owner: Mapped[UUID]
    """The prediction's owner, so that one owner's deliveries do not delay another's."""
    event: Mapped[str]
    """A WebhookEvent."""
    url: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    delivered_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("state IN ('pending', 'delivered', 'failed')", "state"),
        Index("webhook_deliveries_prediction_idx", "prediction_id"),
        Index(
            "webhook_deliveries_once_idx",
            "prediction_id",
            "event",
            unique=True,
            postgresql_where=text(f"event IN {ONCE}"),
        ),
        Index(
            "webhook_deliveries_pending_idx",
            "owner",
            "next_attempt_at",
            postgresql_where=text("state = 'pending'"),
        ),
    )
