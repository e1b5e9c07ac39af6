"""Files of documents: what is wrong with one is said, and the rest is indexed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timezone

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import ExchangeError, ReconciliationError
from imgsearch_es.indexing.exchange import documents
from imgsearch_es.retrieval.ledger import Rejected
from imgsearch_es.stores.base import WriteReport


@pytest.fixture(scope="module")
def exported(stage, tmp_path_factory):
    """The lines of an export, which do not change from test to test."""
    folder = tmp_path_factory.mktemp("exported")
    with ImageIndex(shutil.copy(stage / "pets.duckdb", folder)) as index:
        index.update(stage / "photos" / "cats" / "cat.0.png", metadata={"camera": "X100"})
        index.export(folder / "a.jsonl")
    return (folder / "a.jsonl").read_text()


@pytest.fixture
def lines(exported):
    """The header and the rows of an export."""
    return [json.loads(line) for line in exported.splitlines()]


def write(path, lines):
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
    return path


def imported(tmp_path, lines):
    with ImageIndex(tmp_path / "new.duckdb") as new:
        report = new.import_(write(tmp_path / "b.jsonl", lines))
        assert report.rows == report.added + report.updated + report.rejected
        return report, new.count()


def test_the_file_as_the_documentation_says(lines):
    header, (row,) = lines[0]["imgsearch_es"], [row for row in lines[1:] if row["metadata"]]
    assert header["format_version"] == 1
    assert header["analyzer"]["model"]["name"] == "fake"
    assert set(header) == {
        *("format_version", "analyzer", "weights", "vocabulary", "embedding_dimensions"),
        "schema_version",
    }
    assert set(row) == {
        *("id", "uri", "filename", "sha256", "width", "height", "bytes", "format", "indexed_at"),
        *("label", "metadata", "synsets", "scores", "embedding", "photo"),
    }
    assert (row["metadata"], row["label"]) == ({"camera": "X100"}, ["cats"])


def test_pictures_that_were_arrays_come_back(fake_model, tmp_path):
    with ImageIndex(tmp_path / "arrays.duckdb", model="fake") as index:
        index.add([np.full((20, 30, 3), gray, np.uint8) for gray in (10, 200)])
        assert index.export(tmp_path / "a.jsonl", pictures=True).documents == 2
    with ImageIndex(tmp_path / "new.duckdb") as new:
        report = new.import_(tmp_path / "a.jsonl", pictures=tmp_path / "pictures")
        assert (report.added, report.rejected) == (2, 0)


BAD_ROWS = [
    ("{", "no JSON in UTF-8"),
    ("[1]", "no JSON object"),
    ({"uri": None}, "uri is missing"),
    ({"uri": "file:///photos/cat.jpg"}, "an index says '/photos/cat.jpg'"),
    ({"uri": ""}, "uri"),
    ({"uri": "/a\ud800.jpg"}, "percent-encoding"),
    ({"id": "0" * 32}, "not that of the URI"),
    ({"sha256": "F" * 64}, "sha256"),
    ({"width": 0}, "width is 0"),
    ({"width": 2.5}, "width is 2.5"),
    ({"height": 2**31}, "height"),
    ({"bytes": True}, "bytes is True"),
    ({"format": "../x"}, "format"),
    ({"indexed_at": "yesterday"}, "ISO 8601"),
    ({"indexed_at": "0001-01-01T00:00:00+23:59"}, "ISO 8601"),
    ({"synsets": ["tabby"], "scores": [10**400]}, "not a number above 0"),
    ({"photo": {"place": [10**400, 0]}}, "photo"),
    ({"label": "pets"}, "label is not a list"),
    ({"metadata": [1]}, "no JSON object"),
    ({"metadata": {"a": float("nan")}}, "NaN is no number of JSON"),
    ({"scores": [0.5]}, "same length"),
    ({"synsets": ["tabby"], "scores": [float("inf")]}, "Infinity is no number"),
    ({"synsets": ["tabby"], "scores": [0]}, "the score of tabby is 0"),
    ({"synsets": ["tabby"], "scores": ["1"]}, "not a number above 0"),
    ({"synsets": ["tabby"], "scores": [1e19]}, "not a number above 0 and up to 2^62"),
    ({"synsets": ["tabby"], "scores": [1e39]}, "not a number above 0"),
    ({"synsets": ["unicorn"], "scores": [0.5]}, "no synset 'unicorn'"),
    ({"synsets": [["tabby"]], "scores": [0.5]}, "no synset"),
    ({"synsets": ["tabby", "tabby"], "scores": [0.5, 0.5]}, "twice"),
    ({"synsets": ["tabby", "beagle"], "scores": [0.25, 0.5]}, "best first"),
    ({"embedding": [1.0]}, "embedding has 1 numbers"),
    ({"embedding": ["x"] * 16}, "no list of numbers"),
    ({"embedding": [1e39] * 16}, "not finite"),
    ({"embedding": [1e38] * 16}, "the longest that can be compared"),
    ({"picture": "?"}, "base64"),
]


def test_a_bad_row_is_reported_and_the_others_go_on(lines, tmp_path):
    bad = [change if isinstance(change, str) else lines[5] | change for change, _ in BAD_ROWS]
    report, count = imported(tmp_path, [*lines[:6], *bad, *lines[6:]])
    assert (report.added, report.updated, report.rejected, count) == (12, 0, len(bad), 12)
    reasons = {rejected.row: rejected.reason for rejected in report.rejected_rows}
    for number, (_, reason) in enumerate(BAD_ROWS, 7):
        assert reason in reasons[number]


def test_many_bad_rows_one_after_the_other_end_the_import(lines, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_BAD_ENOUGH", 3)
    report, _ = imported(tmp_path, [*lines[:3], {}, {}, *lines[3:], {}, {}])
    assert (report.added, report.rejected) == (12, 4)
    with pytest.raises(
        ExchangeError, match=r"^3 rows .*, row 6 is the last of them: uri is missing"
    ):
        imported(
            tmp_path, [lines[0], lines[1] | {"label": ["new"]}, lines[2], {}, {}, {}, *lines[3:]]
        )
    with ImageIndex(tmp_path / "new.duckdb") as new:
        assert new.get(lines[1]["uri"]).labels == ("new",)


def test_optional_values_may_be_missing_and_a_row_that_comes_twice_replaces_the_first(
    lines, tmp_path
):
    needless = ("id", "filename", "label", "metadata", "indexed_at", "embedding")
    short = [{k: v for k, v in row.items() if k not in needless} for row in lines[1:]]
    report, count = imported(tmp_path, [lines[0], *short, lines[1] | {"label": ["second"]}])
    assert (report.rows, report.added, report.updated, count) == (13, 12, 1, 12)
    with ImageIndex(tmp_path / "new.duckdb") as new:
        assert new.get(lines[1]["uri"]).labels == ("second",)


def test_the_largest_numbers_and_views_that_the_analyzer_has_not(lines, tmp_path):
    numbers = {"width": 2**31 - 1, "height": 2**31 - 1, "bytes": 2**63 - 1}
    terms = {"synsets": ["tabby"], "scores": [0.5], "views": [1]}
    imported(tmp_path, [lines[0], lines[1] | numbers | terms])
    with ImageIndex(tmp_path / "new.duckdb") as new:
        found = new.get(lines[1]["uri"])
        assert (found.width, found.height, found.bytes) == tuple(numbers.values())
        assert found.views is None
        assert new.verify().is_whole


@pytest.mark.parametrize("text", ["2026-01-01T10:30:00.999999+01:00", "2026-01-01T09:30:00.999Z"])
def test_times_are_kept_to_the_millisecond(lines, tmp_path, text: str):
    imported(tmp_path, [lines[0], lines[1] | {"indexed_at": text}])
    with ImageIndex(tmp_path / "new.duckdb") as new:
        kept = new.get(lines[1]["uri"]).indexed_at
    assert kept == datetime(2026, 1, 1, 9, 30, 0, 999000, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("part", "change", "problem"),
    [
        ("taught", {"weights": ""}, "'beach' cannot be one of this index"),
        ("taught", {"weights": "AAA="}, "multiple of element size"),
        ("taught", {"weights": "AADAfw==" * 16}, "'beach' is not as it was written"),
        ("taught", {"bias": None}, "'beach' is not as it was written"),
        ("taught", {"number": 5}, "'beach' cannot be one of this index"),
        ("taught", {"number": 70000}, "'beach' cannot be one of this index"),
        ("taught", {"key": "tabby"}, "'beach' cannot be one of this index"),
        ("taught", {"key": "a.b"}, "'beach' cannot be one of this index"),
        ("taught", {"key": 5}, "expected str instance"),
        ("taught", {"name": "\ud800"}, "surrogates not allowed"),
        ("taught", {"name": "x" * 40_000}, "cannot be one of this index"),
        ("analyzer", {"views": "parts"}, "views is tiles or tiles14"),
        ("analyzer", {"visual_words": 10**9}, "1 to 1024"),
    ],
)
def test_settings_that_no_index_has(lines, tmp_path, part, change, problem):
    weights = base64.b64encode(np.ones(16, "<f4").tobytes()).decode()
    word = {"name": "beach", "key": "beach", "number": 1000, "weights": weights, "bias": 0.5}
    header = lines[0]["imgsearch_es"]
    changed = {"taught": word | {"like": [], "unlike": []}, "analyzer": header["analyzer"]}
    changed[part] = changed[part] | change
    head = {"imgsearch_es": {**header, **changed, "taught": [changed["taught"]]}}
    with pytest.raises(ExchangeError, match=problem):
        imported(tmp_path, [head, *lines[1:]])
    assert not (tmp_path / "new.duckdb").exists()


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({}, "does not say which analyzer"),
        ("no json", "does not say which analyzer"),
        ({"imgsearch_es": {"format_version": 2}}, "format version 2"),
        ({"imgsearch_es": {"format_version": 1}}, "incomplete"),
        ({"imgsearch_es": {"format_version": 1, "analyzer": {"model": []}}}, "incomplete"),
    ],
)
def test_a_file_without_its_settings(lines, tmp_path, header, problem):
    with pytest.raises(ExchangeError, match=problem):
        imported(tmp_path, [header, *lines[1:]])
    assert not (tmp_path / "new.duckdb").exists()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none.jsonl", None, "No such file|no such file"),
        ("empty.jsonl", b"", "is empty"),
        ("a.csv", b"x", "neither JSON Lines nor Parquet"),
        ("text.parquet", b"no parquet", "cannot read"),
        ("text.jsonl.gz", b"no gzip", "cannot read"),
    ],
)
def test_a_file_that_is_none(tmp_path, name, content, problem):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with ImageIndex(tmp_path / "new.duckdb") as new, pytest.raises(ExchangeError, match=problem):
        new.import_(tmp_path / name)


def test_parquet_of_another_tool(lines, tmp_path):
    """Written by pyarrow from plain rows: only the names of the columns count."""
    rows = [{**row, "metadata": json.dumps(row["metadata"])} for row in lines[1:]]
    rows[3]["metadata"] = '{"a": NaN}'
    table = pyarrow.Table.from_pylist(rows)
    kept = {"imgsearch_es": json.dumps(lines[0]["imgsearch_es"])}
    pyarrow.parquet.write_table(table.replace_schema_metadata(kept), tmp_path / "b.parquet")
    with ImageIndex(tmp_path / "new.duckdb") as new:
        report = new.import_(tmp_path / "b.parquet")
        assert (report.added, [row.row for row in report.rejected_rows]) == (11, [4])


def test_parquet_of_what_python_has_not(lines, tmp_path):
    """Nanoseconds, as pandas writes them; in columns of others nothing is looked at."""

    def column(kind, *values):
        return pyarrow.array(values, pyarrow.int64()).cast(kind)

    def imported_at(times, other):
        table = pyarrow.Table.from_pylist([lines[1] | {"metadata": "{}"}])
        table = table.drop_columns("indexed_at").append_column("indexed_at", times)
        table = table.append_column("other", other)
        kept = {"imgsearch_es": json.dumps(lines[0]["imgsearch_es"])}
        pyarrow.parquet.write_table(table.replace_schema_metadata(kept), tmp_path / "b.parquet")
        with ImageIndex(tmp_path / "new.duckdb") as new:
            new.import_(tmp_path / "b.parquet")
        with ImageIndex(tmp_path / "new.duckdb") as new:  # not what it wrote, but what it reads
            return new.get(lines[1]["uri"]).indexed_at

    beyond = column(pyarrow.timestamp("ms"), 2**62)
    moment = imported_at(column(pyarrow.timestamp("ns"), 1_700_000_000_123_456_789), beyond)
    assert moment.isoformat() == "2023-11-14T22:13:20.123000+00:00"
    with pytest.raises(ExchangeError, match=r"cannot read .*b\.parquet after row 0: "):
        imported_at(beyond, beyond)


def test_a_byte_of_parquet_that_changed_is_told(index, tmp_path):
    file = tmp_path / "b.parquet"
    index.export(file)
    group = pyarrow.parquet.read_metadata(file).row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    features = next(one for one in columns if one.path_in_schema.startswith("embedding"))
    data = bytearray(file.read_bytes())
    data[features.dictionary_page_offset + features.total_compressed_size - 1] ^= 1
    file.write_bytes(data)
    with (
        ImageIndex(tmp_path / "new.duckdb") as new,
        pytest.raises(ExchangeError, match=r"cannot read .*b.parquet"),
    ):
        new.import_(file)


def test_pictures_travel_with_the_documents(index, lines, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    changed, gone = sorted(photos.rglob("*.png"))[:2]
    changed.write_bytes(b"something else")
    gone.unlink()
    report = index.export("~/b.jsonl", pictures=True)
    assert report.documents == 12
    assert report.without_picture == [
        (str(changed), "has changed since it was analyzed"),
        (str(gone), "cannot be opened: no such file or directory"),
    ]
    shutil.rmtree(photos)
    with ImageIndex(tmp_path / "new.duckdb") as new:
        assert new.import_("~/b.jsonl", pictures="~/moved").added == 12
        written = [path for path in (tmp_path / "moved").rglob("*") if path.is_file()]
        assert len(written) == 10
        for path in written:
            document = new.get(path)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == document.sha256
        assert new.add(tmp_path / "moved").unchanged == 10
        wrong = lines[1] | {"picture": base64.b64encode(b"other").decode()}
        write(tmp_path / "c.jsonl", [lines[0], wrong])
        report = new.import_(tmp_path / "c.jsonl", pictures=tmp_path / "moved")
        assert report.rejected_rows[0].reason == "picture has other bytes than sha256 says"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is in UTF-8")
def test_parquet_of_a_name_that_is_no_utf_8_is_an_error(index, tmp_path):
    place = tmp_path / os.fsdecode(b"\xff.parquet")
    with pytest.raises(ExchangeError, match="cannot write"):
        index.export(place)
    place.touch()
    with pytest.raises(ExchangeError, match="cannot read"):
        index.import_(place)


def test_an_export_that_fails_leaves_nothing(index, tmp_path, monkeypatch):
    def broken(filters):
        yield next(documents(filters))
        raise OSError("the disk is gone")

    documents = index.store.documents
    monkeypatch.setattr(index.store, "documents", broken)
    (tmp_path / "a.jsonl").write_text("precious")
    with pytest.raises(ExchangeError, match="the disk is gone"):
        index.export(tmp_path / "a.jsonl", force=True)
    assert (tmp_path / "a.jsonl").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir() if "jsonl" in path.name] == ["a.jsonl"]


def test_commands(run, asked, index, lines, tmp_path, photos):
    file, place = tmp_path / "a.parquet", tmp_path / "new.duckdb"
    out = run("export", file, "-i", index.location, "--where", "label=cats", "--pictures")
    assert out.stdout == f"{file}: 6 documents\n"
    assert "exists; give another name" in run("export", file, "-i", index.location, code=1).stderr
    report = asked("export", file, "-i", index.location, "--force")
    assert report == {"path": str(file), "documents": 12, "without_picture": [], "rounding": None}
    out = run("import", file, "-i", place).stdout
    assert out == f"{place}: 12 added, 0 updated, 0 rejected of 12 rows\n"
    report = asked("import", file, "-i", place)
    assert report == {"rows": 12, "added": 0, "updated": 12, "rejected": 0, "rejected_rows": []}
    bad = write(tmp_path / "b.jsonl", [{"imgsearch_es": None}])
    assert "does not say which analyzer" in run("import", bad, "-i", place, code=1).stderr
    bad = write(tmp_path / "c.jsonl", [lines[0], {**lines[1], "sha256": None}])
    assert "no row could be imported" in run("import", bad, "-i", place, code=1).stderr


def test_what_was_imported_is_no_longer_rejected(index, lines, tmp_path):
    entries = [Rejected(lines[1]["uri"], "broken"), Rejected("/other.png", "broken")]
    index.store.ledger.write(entries)
    assert index.import_(write(tmp_path / "b.jsonl", lines)).updated == 12
    assert index.rejected() == entries[1:]


def test_documents_that_are_lost_on_the_way(fake_model, lines, tmp_path, monkeypatch):
    with ImageIndex(tmp_path / "new.duckdb") as new:
        stored = type(new.store).write

        def losing(self, documents):
            stored(self, documents[:-2])
            return WriteReport(stored=len(documents))

        monkeypatch.setattr(type(new.store), "write", losing)
        with pytest.raises(ReconciliationError, match="2 of the 12 documents written"):
            new.import_(write(tmp_path / "b.jsonl", lines))


def test_damaged_compression_is_told(lines, tmp_path):
    data = gzip.compress(write(tmp_path / "b.jsonl", lines).read_bytes(), mtime=0)
    place = tmp_path / "b.jsonl.gz"
    with ImageIndex(tmp_path / "new.duckdb") as new:
        for i in range(10, len(data), len(data) // 40):
            place.write_bytes(data[:i] + b"\xff\xff\xff\xff" + data[i + 4 :])
            with pytest.raises(ExchangeError, match=r"cannot read|which analyzer"):
                new.import_(place)


def test_drafts_of_exports_that_were_killed_go_with_the_next_one(index, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, lives, other = (
        tmp_path / name
        for name in (f".{ended.pid}.a[1].jsonl", f".{os.getppid()}.a[1].jsonl", ".1x.a[1].jsonl")
    )
    for draft in (left, lives, other):
        draft.write_text("half")
    index.export(tmp_path / "a[1].jsonl")
    assert [draft.exists() for draft in (left, lives, other)] == [False, True, True]
