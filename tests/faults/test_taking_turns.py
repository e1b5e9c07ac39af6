"""Several processes on one index file: everybody gets a turn."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from imgsearch_es import ImageIndex
from tests.conftest import ROOT
from tests.faults.conftest import ALL, content

SEARCHER = """
import json, sys, time
from imgsearch_es import ImageIndex
from tests.fakes import register
register()
index, times = ImageIndex(sys.argv[1]), []
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    started = time.monotonic()
    index.search(text="tabby", k=5)
    times.append(time.monotonic() - started)
print(json.dumps(sorted(times)))
"""


@pytest.mark.long
def test_two_indexers_and_three_busy_searchers_for_a_minute(start, folder, undisturbed, tmp_path):
    location = tmp_path / "index.duckdb"
    with ImageIndex(location, model="fake") as index:
        index.create()
    command = [sys.executable, "-c", SEARCHER, str(location), "60"]
    searchers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    indexers = [start(location, folder, "--pause", 3) for _ in range(2)]
    for child in indexers:
        out, err = child.communicate(timeout=300)
        assert (child.returncode, err) == (0, "")
        assert json.loads(out.splitlines()[-1])["found"] == ALL
    for child in searchers:
        out, _ = child.communicate(timeout=120)
        assert child.returncode == 0
        times = json.loads(out)
        assert times[int(0.95 * len(times))] < 2
    assert content(str(location)) == undisturbed()
