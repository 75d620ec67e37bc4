"""The size of an input in Redis, and whether the prediction is held in PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_HELD = "held AND status IN ('starting', 'processing')"


def upgrade() -> None:
    op.add_column(
        "predictions",
        sa.Column("input_bytes", sa.Integer(), server_default="0", nullable=False),
    )
    op.add_column(
        "predictions",
        sa.Column("held", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_index(
        "predictions_held_idx",
        "predictions",
        ["owner", "model", "id"],
        postgresql_where=sa.text(_HELD),
    )


def downgrade() -> None:
    op.drop_index("predictions_held_idx", "predictions")
    op.drop_column("predictions", "held")
    op.drop_column("predictions", "input_bytes")
