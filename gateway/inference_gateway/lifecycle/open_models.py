"""Which models have open predictions."""

from __future__ import annotations

from sqlalchemy import Engine, text

from inference_gateway.postgres.tables import OPEN

# One index lookup per model, however many rows it has. With a narrower condition a planner without
# statistics may sort all rows.
_OPEN_MODELS = text(f"""
WITH RECURSIVE m(model) AS (
  (SELECT model FROM predictions WHERE {OPEN} ORDER BY model LIMIT 1)
  UNION ALL
  SELECT (SELECT p.model FROM predictions p WHERE p.{OPEN} AND p.model > m.model
          ORDER BY p.model LIMIT 1)
  FROM m WHERE m.model IS NOT NULL
)
SELECT model FROM m WHERE model IS NOT NULL
""")  # noqa: S608 - constants of ours


def open_models(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(_OPEN_MODELS).scalars())
