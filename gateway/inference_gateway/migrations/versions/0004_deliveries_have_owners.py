"""Webhook deliveries have owners, for a fair order of delivery."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INDEX = "webhook_deliveries_pending_idx"
_PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    op.add_column("webhook_deliveries", sa.Column("owner", sa.Uuid(), nullable=True))
    op.execute(
        "UPDATE webhook_deliveries d SET owner = p.owner FROM predictions p"
        " WHERE p.id = d.prediction_id"
    )
    op.alter_column("webhook_deliveries", "owner", nullable=False)
    op.drop_index(_INDEX)
    columns = ["owner", "next_attempt_at"]
    op.create_index(_INDEX, "webhook_deliveries", columns, postgresql_where=_PENDING)


def downgrade() -> None:
    op.drop_index(_INDEX)
    columns = ["next_attempt_at"]
    op.create_index(_INDEX, "webhook_deliveries", columns, postgresql_where=_PENDING)
    op.drop_column("webhook_deliveries", "owner")
