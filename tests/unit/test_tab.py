"""What the Tab key gives in IPython, and what editors read: strategies and options."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import get_args

import pytest

from imgsearch_es.retrieval.strategies import STRATEGIES, StrategyName

DENSE = [name for name in STRATEGIES if name.startswith("dense-")]
SHELL = """
import json, sys
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_cell("import imgsearch_es as ie")
shell.run_cell("from imgsearch_es import ImageIndex, evaluate")
shell.run_cell("from imgsearch_es.pyterrier import Index")
shell.run_cell("index, photos = ImageIndex('a.duckdb'), Index('a.duckdb')")
with provisionalcompleter():
    for cell in json.loads(sys.argv[1]):
        found = shell.Completer.completions(cell, len(cell))
        print("FOUND", json.dumps([cell[:each.start] + each.text for each in found]))
"""
IN_STRINGS = {  # what is typed, and how it may go on
    'index.search(strategy="': [*STRATEGIES],
    'index.search("a cat", k=5, strategy="dense-': DENSE,
    "# don't\nindex.search(\n    'a, (cat',\n    strategy='sq": ["sqrt"],
    'index.run({"q": "cat"}, "sq': ["sqrt"],
    'index.run({}, "sqrt=2+dense-ch': ["dense-chi2"],
    'index.browse(strategy="vis': ["visual-words"],
    'index.pages("cat", strategy="tf': ["tfidf"],
    'evaluate(index, systems="auto,bm': ["bm25"],
    'ie.evaluate(index, "labels", ["auto", "bm': ["bm25"],
    'photos.images.search(strategy="bm': ["bm25"],
    'photos.retriever("bm': ["bm25"],
    'index.search("bm': [],  # words
    'index.store.search(strategy="bm': [],  # a property, which is not read
    'print("bm': [],
}
OPTIONS = {
    "index.search(": {"strategy=", "where=", "k=", "fuse="},
    "index.add('a', la": {"labels="},
    "index.pages('cat', wh": {"where="},
    "index.more_like('a', str": {"strategy="},
    "index.reindex(vis": {"visual_words="},
    "ImageIndex('a', vis": {"visual_words="},
    "evaluate(index, sys": {"systems="},
}


@pytest.mark.slow
def test_ipython_completes_strategies_and_options(tmp_path):
    asked = json.dumps([*IN_STRINGS, *OPTIONS])
    command = [sys.executable, "-W", "ignore", "-c", SHELL, asked]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    found = [json.loads(each[6:]) for each in run.stdout.splitlines() if each[:6] == "FOUND "]
    for cell, after in zip([*IN_STRINGS, *OPTIONS], found, strict=True):
        if cell in OPTIONS:
            assert all(
                any(re.search(rf"\b{name}$", each) for each in after) for name in OPTIONS[cell]
            ), cell
        else:
            typed = cell[max(map(cell.rfind, "\"'+,")) + 1 :]
            head = cell[: len(cell) - len(typed)]
            wanted = [head + name for name in IN_STRINGS[cell]]
            assert after == wanted if wanted else not {head + "bm25"} & {*after}, cell


def test_an_ipython_without_such_completion_imports_us_as_before():
    code = (
        "import IPython.core.completer as old; del old.context_matcher\n"
        "import imgsearch_es; print(imgsearch_es.Term.__name__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.stdout, run.returncode) == ("Term\n", 0), run.stderr


def test_the_names_for_editors_are_those_of_the_registry():
    assert get_args(StrategyName) == tuple(STRATEGIES)
