"""Usage of accounts, for quotas: open predictions by owner, stored bytes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OPEN = sa.text("status IN ('starting', 'processing')")


def upgrade() -> None:
    op.create_index("predictions_open_owner_idx", "predictions", ["owner"], postgresql_where=_OPEN)
    op.create_table(
        "account_usage",
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("account_usage_pkey")),
    )


def downgrade() -> None:
    op.drop_table("account_usage")
    op.drop_index("predictions_open_owner_idx")
