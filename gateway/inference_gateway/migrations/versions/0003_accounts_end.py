"""Accounts can be disabled and deleted; a rising token version ends their access tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIMES = ("disabled_at", "deleted_at", "settled_at")


def upgrade() -> None:
    op.add_column(
        "users",
        sa.Column("token_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
    )
    for name in _TIMES:
        op.add_column("users", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "users_leaving_idx",
        "users",
        ["deleted_at"],
        postgresql_where=sa.text("deleted_at IS NOT NULL AND settled_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("users_leaving_idx", "users")
    for name in ("token_version", *_TIMES):
        op.drop_column("users", name)
