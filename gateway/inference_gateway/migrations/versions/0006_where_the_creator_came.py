"""The base URL of the creator's request, for the links in webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("predictions", sa.Column("base_url", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("predictions", "base_url")
