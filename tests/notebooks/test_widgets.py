"""What is for notebooks only, in a real kernel: the magic, the search box and the bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SETUP = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.fakes import register
register()
from imgsearch_es import ImageIndex
from imgsearch_es.indexing import report as progress
progress.DELAY_SECONDS = 0.0
index = ImageIndex("pets.duckdb", model="fake")
"""
ADD = "report = index.add('photos')"
BOX = """
word = index.get("photos/0.png").terms[0].key
box = index.browse(word, k=3)
box
"""
DRIVE = """
before = box.hits
box.results.cells[0].like.value = True
box.refine_button.click()
assert box.hits.uris == before.refine([0]).uris
box.next.click()
box.back.click()
box.back.click()
assert box.hits is before
"""
MAGIC = """%load_ext imgsearch_es
hits = %imgsearch {word} -k 2
hits"""
MISTAKE = "%imgsearch xyzzyx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of eight small pictures."""
    noise = np.random.default_rng(3)
    (tmp_path / "photos").mkdir()
    for i in range(8):
        pixels = noise.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path


def run(folder: Path, *codes: str) -> list[list[Any]]:
    """The outputs of cells with this code."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources)
    try:
        client.execute()
    except CellExecutionError:
        assert codes[-1] == MISTAKE
    return [cell.outputs for cell in notebook.cells]


def test_bar_box_and_magic(folder: Path):
    setup, add, box, drive, magic, mistake = run(folder, SETUP, ADD, BOX, DRIVE, MAGIC, MISTAKE)
    assert setup == drive == []
    (bar,) = add  # one output, replaced again and again
    assert bar.data["text/plain"].startswith("Indexed 8 pictures in ")
    assert "<progress" in bar.data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in box[0].data
    (gallery,) = magic
    assert gallery.data["text/html"].count("<figure>") == 2
    printed = "".join(output.get("text", "") for output in mistake)
    assert printed.startswith("UsageError: ")
    assert len(printed.splitlines()) == 1
