"""Files that may not be read or written: a sentence each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgsearch_es import ImageIndex
from tests.conftest import python

NOBODY = """
import os, sys, typer.testing
from imgsearch_es.interfaces.cli import app
from tests.fakes import register
register()
run = typer.testing.CliRunner().invoke
for command in (["search", "tabby"], ["remove", "cat.jpg"]):  # so that all modules are loaded
    assert run(app, [*command, "-i", sys.argv[1]]).exit_code == 0
os.chmod(sys.argv[2], int(sys.argv[3], 8))
if os.geteuid() == 0:
    os.seteuid(65534)
done = run(app, [*sys.argv[4:], "-i", sys.argv[1]])
sys.stdout.write(done.stderr)
sys.exit(done.exit_code)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with an index that everybody may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with ImageIndex(Path(folder) / "a.duckdb", model="fake") as index:
            index.create()
        yield Path(folder)
        Path(folder).chmod(0o755)


@pytest.mark.parametrize(
    ("what", "mode", "command"),
    [
        ("a.duckdb", 0, ["search", "tabby"]),
        (".", 0, ["search", "tabby"]),
        ("a.duckdb", 0o444, ["remove", "cat.jpg"]),
        (".", 0o555, ["remove", "cat.jpg"]),
    ],
)
def test_a_sentence_and_no_traceback(place, what, mode, command):
    index = str(place / "a.duckdb")
    done = python("-c", NOBODY, index, place / what, oct(mode), *command, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{index} cannot be opened (permission denied)" in done.stdout
    assert len(done.stdout.splitlines()) == 1
