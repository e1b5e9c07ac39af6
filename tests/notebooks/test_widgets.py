"""What is for notebooks only, in a real kernel: the magic, the search box and the bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.fakes import pictures

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
word = index.get("photos/00.png").terms[0].key
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
TEACH = """
box.results.cells[0].like.value = box.results.cells[2].like.value = True
box.results.cells[1].dislike.value = True
box.new_word.value = "my noise"
box.teach_button.click()
assert box.words.value == '"my noise"', box.message.value
assert box.hits.total == index.words()[0].pictures
assert index.forget("my noise") == box.hits.total
"""
MAGIC = """%load_ext imgsearch_es
hits = %imgsearch {word} -k 2
hits"""
MISTAKE = "%imgsearch xyzzyx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of eight small pictures."""
    pictures(tmp_path / "photos", 8)
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
    cells = SETUP, ADD, BOX, DRIVE, TEACH, MAGIC, MISTAKE
    setup, add, box, drive, taught, magic, mistake = run(folder, *cells)
    assert setup == drive == taught == []
    (bar,) = add  # one output, replaced again and again
    assert bar.data["text/plain"].startswith("Indexed 8 pictures in ")
    assert "<progress" in bar.data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in box[0].data
    left = box[1].data["text/html"]  # for an export: the gallery of the last step, in a later cell
    assert left.startswith('<div class="imgsearch-left"><section')
    assert "my noise" in left
    assert left.count("<figure>") == 3
    (gallery,) = magic
    assert gallery.data["text/html"].count("<figure>") == 2
    printed = "".join(output.get("text", "") for output in mistake)
    assert printed.startswith("UsageError: ")
    assert len(printed.splitlines()) == 1
