"""An index is built anew beside the old one, and the two are swapped in one step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import AnalyzerMismatchError, ConfigurationError, MissingPicturesError

SMALLER = {"model": "fake", "term_filters": [{"name": "top_k", "k": 3}]}
ROOT = Path(__file__).resolve().parents[2]


def test_a_new_analyzer(index, cat, photos, tmp_path):
    index.update(cat, metadata={"n": {"m": [1]}})
    assert len(index.get(cat).terms) == 50
    other = ImageIndex(index.location)
    assert len(other.search(image=cat)[0].synsets) == 50
    report = index.reindex(analyzer=SMALLER)
    assert (report.documents, report.analyzed, report.copied, report.missing) == (12, 12, 0, [])
    for opened in (index, other):
        document = opened.get(cat)
        assert len(document.terms) == 3
        assert (document.labels, document.metadata) == (("cats",), {"n": {"m": [1]}})
        assert opened.search(image=cat)[0].uri == str(cat)
        assert opened.add(photos).unchanged == 12
    names = sorted(path.name for path in tmp_path.glob("pets*"))
    assert names == ["pets.duckdb", "pets.duckdb.snapshot"]
    with pytest.raises(AnalyzerMismatchError):
        ImageIndex(index.location, analyzer={"model": "fake"}).search(image=cat)


def test_the_same_analyzer_copies(index, cat, photos, fake_model):
    before = {document.id: document.terms for document in index.store.documents()}
    for path in photos.rglob("*.png"):
        path.unlink()
    fake_model.calls = 0
    report = index.reindex(keep_old=True)
    assert (report.documents, report.analyzed, report.copied) == (12, 0, 12)
    assert fake_model.calls == 0
    assert {document.id: document.terms for document in index.store.documents()} == before
    assert ImageIndex(f"{index.location}.old").count() == 12


def test_a_refusal_names_the_index_that_was_named(index):
    with pytest.raises(ConfigurationError, match=r"pets\.duckdb cannot keep thumbnails"):
        index.reindex(thumbnails=96)


def test_missing_pictures_stop_it_and_nothing_is_lost(index, cat, fake_model):
    broken = cat.parent / "cat.1.png"
    index.add(broken.read_bytes())
    index.update(cat, labels="gone", metadata={"year": 2024})
    index.update(broken, labels="broken")
    contents = {path: path.read_bytes() for path in (cat, broken)}
    cat.unlink()
    broken.write_bytes(b"no picture any more")
    with pytest.raises(MissingPicturesError, match=r"as it was.*and 2 more.*--allow") as raised:
        index.reindex(analyzer=SMALLER)
    reasons = {reason for _, reason in raised.value.pictures}
    assert {"the file is gone", "came from memory and cannot be read again"} < reasons
    assert index.count() == 13
    assert len(index.get(cat).terms) == 50
    fake_model.calls = 0
    report = index.reindex(analyzer=SMALLER, allow_missing=True)
    assert fake_model.calls <= 1, "what was analyzed is kept (one call finds the dimensions)"
    assert (report.documents, report.analyzed, len(report.missing)) == (10, 0, 3)
    assert index.count() == 10
    for path, data in contents.items():
        path.write_bytes(data)
    assert index.add(cat.parent).added == 2
    assert (index.get(cat).labels, index.get(cat).metadata) == (("gone",), {"year": 2024})
    assert index.get(broken).labels == ("broken",)
    assert index.rejected() == []


def test_an_interrupted_run_goes_on_or_starts_again(index, fake_model, monkeypatch):
    def stop(self, *arguments, **options):
        raise KeyboardInterrupt

    def interrupted(analyzer):
        with monkeypatch.context() as patch:
            patch.setattr(type(index.store), "replace", stop)
            with pytest.raises(KeyboardInterrupt):
                index.reindex(analyzer=analyzer)

    interrupted(SMALLER)
    assert index.count() == 12
    assert len(next(index.store.documents()).terms) == 50
    assert index.reindex(analyzer=SMALLER).analyzed == 0
    interrupted({**SMALLER, "term_filters": [{"name": "top_k", "k": 4}]})
    other = {**SMALLER, "term_filters": [{"name": "top_k", "k": 5}]}
    assert index.reindex(analyzer=other).analyzed == 12
    assert {len(document.terms) for document in index.store.documents()} == {5}


def test_what_is_written_meanwhile_is_in_the_new_index(index, photos, cat, monkeypatch):
    """Another process adds, changes and removes between the last look and the swap."""
    with ImageIndex(index.location) as other:
        moments = iter([True, False])
        replace = type(index.store).replace

        def late(self, new, mark, *, keep):
            if next(moments):
                other.remove(photos / "dogs" / "dog.0.png")
                other.update(cat, labels="late")
                (photos / "late.png").write_bytes(cat.read_bytes())
                other.add(photos / "late.png")
            return replace(self, new, mark, keep=keep)

        monkeypatch.setattr(type(index.store), "replace", late)
        report = index.reindex(analyzer=SMALLER)
    assert report.documents == index.count() == 12
    assert index.get(cat).labels == ("late",)
    assert len(index.get(photos / "late.png").terms) == 3


def test_searches_of_another_process_never_fail_nor_see_half(index, photos, tmp_path):
    code = """
        import sys, time
        from imgsearch_es import ImageIndex
        from tests.fakes import register
        register()
        index = ImageIndex(sys.argv[1])
        seen = set()
        def look():
            hits = index.search(image=sys.argv[2], k=100)
            seen.add((len(hits[0].synsets), len(hits) > 0, len(hits.query.terms), index.count()))
        look()
        print("ready", flush=True)
        end = time.monotonic() + 60
        while time.monotonic() < end and len(seen) < 2:
            look()
        print(sorted(seen))
    """
    cat = photos / "cats" / "cat.0.png"
    outside = tmp_path / "query.png"
    outside.write_bytes(cat.read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), index.location, str(outside)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
        index.reindex(analyzer=SMALLER)
        answer = process.stdout.read()
    assert process.wait() == 0
    assert answer == "[(3, True, 3, 12), (50, True, 10, 12)]\n"


def test_command(run, index, cat, tmp_path):
    run = partial(run, "reindex", "-i", index.location)
    assert run().stdout == f"{index.location}: 12 documents, 12 copied\n"
    (tmp_path / "a.toml").write_text('model = "fake"\nterm_filters = []\n')
    cat.unlink()
    assert "cat.0.png cannot be read again" in run("--analyzer", tmp_path / "a.toml", code=1).stderr
    out = run("--analyzer", tmp_path / "a.toml", "--allow-missing", "--json").stdout
    assert json.loads(out) == {
        "documents": 11,
        "analyzed": 0,
        "copied": 0,
        "missing": [{"uri": str(cat), "reason": "the file is gone"}],
        "lost_words": [],
        "without_colors": 0,
        "unread": [],
    }
