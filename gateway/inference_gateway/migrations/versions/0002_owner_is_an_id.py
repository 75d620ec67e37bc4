"""The owner of a prediction is the id of an account: a name registered again inherits nothing."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _convert_owner(kind: str, given: str, value: str) -> None:
    # Only a function may read another table here. A rewrite fires no trigger that forbids it.
    op.execute(f"""
        CREATE FUNCTION predictions_new_owner({given}) RETURNS {kind} LANGUAGE sql
        AS $$ SELECT COALESCE({value}) $$
    """)
    op.execute(
        f"ALTER TABLE predictions ALTER owner TYPE {kind} USING predictions_new_owner(owner)"
    )
    op.execute(f"DROP FUNCTION predictions_new_owner({given})")


def upgrade() -> None:
    # What a name left that nobody has any more stays together, and nobody's.
    _convert_owner("uuid", "text", "(SELECT id FROM users WHERE username = $1), md5($1)::uuid")


def downgrade() -> None:
    _convert_owner("text", "uuid", "(SELECT username FROM users WHERE id = $1), $1::text")
