"""Lists of pictures: text files, CSV and Parquet."""

from __future__ import annotations

from datetime import date

import duckdb
import pytest

from imgsearch_es import PictureList
from imgsearch_es.errors import ConfigurationError, SourceError
from imgsearch_es.pictures.manifests import Entry
from tests.unit.test_archives import png, write_tar


def entries(path) -> list[Entry]:
    return list(PictureList(path).entries())


def write_parquet(path, select: str) -> None:
    with duckdb.connect() as database:
        database.sql(select).write_parquet(str(path))


def test_a_text_file(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa.jpg\r\n\nsub/b c.jpg\n/abs/c.jpg\ns3://bucket/d.jpg\n\xff.jpg")
    assert [entry.uri for entry in entries(path)] == [
        f"{tmp_path}/a.jpg",
        f"{tmp_path}/sub/b c.jpg",
        "/abs/c.jpg",
        "s3://bucket/d.jpg",
        f"file://{tmp_path}/%FF.jpg",
    ]


def test_a_csv_file(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(
        "path,label,metadata.camera,metadata.year,other\n"
        'a.jpg,cat,"X, Y",2001,zzz\n'
        'b.jpg,"[""cat"", ""sofa""]",-9223372036854775808,18446744073709551616,\n'
        "c.jpg,,,,\n"
    )
    assert entries(path) == [
        Entry(f"{tmp_path}/a.jpg", ("cat",), {"camera": "X, Y", "year": 2001}),
        Entry(f"{tmp_path}/b.jpg", ("cat", "sofa"), {"camera": -(2**63), "year": str(2**64)}),
        Entry(f"{tmp_path}/c.jpg", None, {}),
    ]


def test_the_column_may_be_called_labels(tmp_path):
    (tmp_path / "list.csv").write_text("path,labels\n/a.jpg,tom\n")
    write_parquet(tmp_path / "list.parquet", "SELECT '/a.jpg' AS path, ['tom'] AS labels")
    assert entries(tmp_path / "list.csv") == entries(tmp_path / "list.parquet")
    assert entries(tmp_path / "list.csv")[0].labels == ("tom",)


def test_metadata_may_be_one_object_as_in_an_export(tmp_path):
    text = 'path,metadata,metadata.Year\na.jpg,"{""a"": [1], ""Year"": 1}",2001\nb.jpg,,\n'
    (tmp_path / "list.csv").write_text(text)
    select = """SELECT 'a.jpg' AS path, '{"a": [1]}' AS metadata, 2001 AS "metadata.Year" """
    write_parquet(tmp_path / "list.parquet", f"{select} UNION ALL SELECT 'b.jpg', NULL, NULL")
    write_parquet(
        tmp_path / "struct.parquet", "SELECT 'a.jpg' AS path, {'a': [1], 'b': NULL} AS metadata"
    )
    for name in ("list.csv", "list.parquet"):
        found = [entry.metadata for entry in entries(tmp_path / name)]
        assert found == [{"a": [1], "Year": 2001}, {}]
    assert entries(tmp_path / "struct.parquet")[0].metadata == {"a": [1]}
    (tmp_path / "list.csv").write_text("path,metadata\na.jpg,old\n")
    with pytest.raises(SourceError, match="line 2: the metadata 'old' is no JSON object"):
        entries(tmp_path / "list.csv")


@pytest.mark.parametrize("name", [" label", "Label", "LABELS", "Metadata.x"])
def test_a_column_that_is_almost_called_so_is_not_passed_over(tmp_path, name):
    (tmp_path / "list.csv").write_text(f"path,{name}\na.jpg,cat\n")
    write_parquet(tmp_path / "list.parquet", f"""SELECT 'a.jpg' AS path, 'cat' AS "{name}" """)
    for kind in ("csv", "parquet"):
        with pytest.raises(SourceError, match=f"has a column '{name}': call it"):
            entries(tmp_path / f"list.{kind}")


def test_a_parquet_file_keeps_types(tmp_path):
    path = tmp_path / "a[1]*.parquet"  # a name that DuckDB would expand
    write_parquet(
        path,
        "SELECT * FROM (VALUES "
        "('s3://b/a.jpg', ['x', 'y'], 3, DATE '2020-02-03', {'k': 1.5::DECIMAL(3, 1)}, 'z'), "
        "('/b.jpg', NULL, NULL, NULL, NULL, NULL)) "
        'AS t(uri, "label", "metadata.n", "metadata.day", "metadata.more", other)',
    )
    day = date(2020, 2, 3).isoformat()
    assert entries(path) == [
        Entry("s3://b/a.jpg", ("x", "y"), {"n": 3, "day": day, "more": {"k": 1.5}}),
        Entry("/b.jpg", None, {}),
    ]


def test_parquet_of_many_rows(tmp_path):
    path = tmp_path / "many.parquet"
    write_parquet(path, "SELECT '/' || i || '.jpg' AS path FROM range(2500) r(i)")
    found = entries(path)
    assert len(found) == 2500
    assert (found[0].uri, found[-1].uri) == ("/0.jpg", "/2499.jpg")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.txt", "a.jpg\nb\0.jpg\n", r"l\.txt, line 2: this is no list of paths"),
        ("l.csv", "label\nx\n", r"l\.csv must have a column 'uri' or 'path'; it has neither, but"),
        ("l.csv", "uri,path\na,b\n", r"it has both"),
        ("l.csv", "uri,label,labels\na,b,c\n", r"has a column 'label' and one 'labels'"),
        ("l.csv", "", r"neither, but nothing"),
        ("l.csv", "uri,uri\na,b\n", r"l\.csv has several columns 'uri'$"),
        ("l.csv", "uri,label\na.jpg,\udcfc\n", r"l\.csv is not in UTF-8: save it as UTF-8$"),
        ("l.csv", "uri,label\n" + 9_000 * "a.jpg,x\n" + "\udcfc", r"l\.csv is not in UTF-8"),
        (
            "l.csv",
            "uri,label\na.jpg,x\n,y\n",
            r"l\.csv, line 3: the picture's path or URI is empty",
        ),
        ("l.csv", "uri,label\na.jpg\n", r"l\.csv, line 2: it has not as many fields"),
        ("l.csv", "uri\na.jpg,x\n", r"l\.csv, line 2: it has not as many fields"),
        ("l.csv", 'uri,label\na.jpg,"[x"\n', r"line 2: the label '\[x' begins as a JSON list"),
        ("l.csv", 'uri,label\na.jpg,"[1.5]"\n', r"line 2: the label \[1.5\] is neither"),
        ("l.csv", 'uri\n"a"b\n', r"l\.csv, after line 1: "),
        ("l.csv", "uri\nfile://host/x.jpg\n", r"line 2: file://host/x.jpg names no local file"),
        ("l.parquet", "no parquet", r"l\.parquet cannot be read as Parquet"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SourceError, match=message):
        entries(path)


def test_parquet_mistakes(tmp_path):
    path = tmp_path / "l.parquet"
    write_parquet(path, "SELECT 'a.jpg' AS url")
    with pytest.raises(SourceError, match="it has neither, but url"):
        entries(path)
    write_parquet(path, "SELECT 'a.jpg' AS uri, 'x'::BLOB AS \"metadata.raw\"")
    with pytest.raises(SourceError, match=r"row 1: metadata\.raw is a bytes, which JSON"):
        entries(path)


def test_a_list_that_is_not_there_or_no_list(new, tmp_path):
    for name in ("none.txt", "none.csv", "none.parquet"):
        with pytest.raises(SourceError, match=rf"the list .*{name} .*no such file"):
            new.add(PictureList(tmp_path / name))
    assert not new.exists
    for name in ("a.jpg", "a.tar"):
        with pytest.raises(ConfigurationError, match=f"{name} is no list of pictures"):
            PictureList(name)


def test_indexing_a_list(new, photos, tmp_path):
    path = photos / "list.csv"
    path.write_text(
        "path,label,metadata.n\ncats/cat.0.png,tom,1\ncats/cat.1.png,,\n"
        "cats/../cats/cat.0.png,twice,2\ncats/cat.0.png,,\ngone.png,,\n"
    )
    sources = [photos / "dogs", photos / "cats" / "cat.1.png", PictureList(path)]
    report = new.add(sources, labels="pet", metadata={"by": "me"})
    assert (report.added, report.found) == (8, 9)
    assert report.passed_over["named again with other labels or metadata"] == 1
    assert [entry.uri for entry in report.rejected] == [str(photos / "gone.png")]
    first, second = (new.get(photos / "cats" / f"cat.{i}.png") for i in (0, 1))
    assert (first.labels, dict(first.metadata)) == (("tom",), {"by": "me", "n": 1})
    assert (second.labels, dict(second.metadata)) == (("pet",), {"by": "me"})
    again = new.add(PictureList(path))
    assert (again.unchanged, again.updated) == (1, 1)  # without by="me", the first has only n
    assert dict(new.get(first.uri).metadata) == {"n": 1}


def test_what_a_list_says_holds_also_beside_its_folder(new, photos, tmp_path):
    (tmp_path / "list.csv").write_text(f"path,label\n{photos}/cats/cat.0.png,tom\n")
    report = new.add([photos / "cats", PictureList(tmp_path / "list.csv")])
    assert (report.added, new.count(), dict(report.passed_over)) == (report.found, report.found, {})
    assert new.get(photos / "cats" / "cat.0.png").labels == ("tom",)


def test_a_tar_file_in_a_list_stands_for_its_pictures(new, tmp_path):
    write_tar(tmp_path / "s.tar", {"a.png": png(1), "b.png": png(2), "b.cls": b"own"})
    (tmp_path / "list.csv").write_text("path,label,metadata.n\ns.tar,all,1\n")
    assert new.add(PictureList(tmp_path / "list.csv")).added == 2
    found = {d: new.get(f"tar://{d}.png::{tmp_path}/s.tar") for d in "ab"}
    assert {d: document.labels for d, document in found.items()} == {"a": ("all",), "b": ("own",)}
    assert dict(found["b"].metadata) == {"n": 1}


def test_lists_at_a_url(tmp_path):
    import fsspec

    write_parquet(tmp_path / "l.parquet", "SELECT 'x/a.jpg' AS path, 'b' AS \"label\"")
    files = {"l.txt": b"x/a.jpg\n", "l.csv": b"path,label\nx/a.jpg,b\n"}
    files["l.parquet"] = (tmp_path / "l.parquet").read_bytes()
    for name, data in files.items():
        with fsspec.open(f"memory://lists/{name}", "wb") as file:
            file.write(data)
        (entry,) = entries(f"memory://lists/{name}")
        assert entry.uri == "memory://lists/x/a.jpg"
        assert entry.labels == (None if name == "l.txt" else ("b",))


def test_a_relative_path_begins_at_the_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "l.txt").write_text("a.jpg\n")
    assert [entry.uri for entry in entries("sub/l.txt")] == [f"{tmp_path}/sub/a.jpg"]
