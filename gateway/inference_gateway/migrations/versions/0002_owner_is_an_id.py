"""The owner of a prediction is the id of an account: a name registered again inherits nothing."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _convert_owner(kind: str, given: str, value: str) -> None:
    # USING may read another table only in a function. The rewrite does not fire the trigger.
    op.execute(f"""
        CREATE FUNCTION predictions_new_owner({given}) RETURNS {kind} LANGUAGE sql
        AS $$ SELECT COALESCE({value}) $$
    """)
    op.execute(
        f"ALTER TABLE predictions ALTER owner TYPE {kind} USING predictions_new_owner(owner)"
    )
    op.execute(f"DROP FUNCTION predictions_new_owner({given})")


def upgrade() -> None:
    # Predictions of a name without account get a common id that belongs to no account.
    _convert_owner("uuid", "text", "(SELECT id FROM users WHERE username = $1), md5($1)::uuid")


def downgrade() -> None:
    _convert_owner("text", "uuid", "(SELECT username FROM users WHERE id = $1), $1::text")
