"""`python -m inference_gateway.migrate`: migrate the database to this version's schema."""

from __future__ import annotations

import sys

from inference_gateway import migrations


def main() -> int:
    try:
        migrations.upgrade()
    except migrations.MigrationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
