"""Runs the README's Python example, as printed there, on both stores."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from imgsearch_es.demo import make_photos

README = Path(__file__).resolve().parents[2] / "README.md"
LOCATION = '"photos.duckdb"'

pytestmark = pytest.mark.model


def example() -> tuple[str, list[str]]:
    """The first Python block, and the lines of the block after it: what it prints."""
    blocks = re.search(
        r"```python\n(.*?)```\n\n```\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL
    )
    assert blocks
    return blocks[1], blocks[2].splitlines()


def check(code: str, expected: list[str], folder: Path):
    make_photos(folder / "demo" / "photos")
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    printed = run.stdout.splitlines()
    assert len(printed) == len(expected)
    for line, promised in zip(printed, expected, strict=True):
        assert line.split()[0] == promised.split()[0]
        # the last digits depend on the processor and on TensorFlow
        assert float(line.split()[-1]) == pytest.approx(float(promised.split()[-1]), rel=0.02)


def test_example_on_the_embedded_store(tmp_path: Path):
    code, expected = example()
    assert LOCATION in code
    check(code, expected, tmp_path)


@pytest.mark.node
def test_example_on_elasticsearch(tmp_path: Path, elasticsearch_url: str, fresh_index_name: str):
    code, expected = example()
    url = f'"{elasticsearch_url}/{fresh_index_name}"'
    check(code.replace(LOCATION, url), expected, tmp_path)
