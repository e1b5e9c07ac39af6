"""Fifty people at once on the page, for some seconds; benchmarks/server.py measures a minute."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import python


@pytest.mark.long
@pytest.mark.model
def test_fifty_users_at_once_meet_no_error(tmp_path: Path):
    found = tmp_path / "server.json"
    command = ["benchmarks/server.py", "--users", 50, "--seconds", 8, "--json", found]
    run = python(*command)
    assert run.returncode == 0, run.stdout + run.stderr
    told = json.loads(found.read_text())
    assert told["errors"] == 0
    assert told["rows"]["all"]["count"] >= told["users"]
    assert told["rows"]["words"]["count"] > 0
