"""Features in files: out of an index and into one, and what is wrong with a file is said."""

from __future__ import annotations

import csv
import json

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.errors import AnalyzerMismatchError, ConfigurationError, ExchangeError, QueryError
from imgsearch_es.indexing.exchange.feature_files import NAMES, VECTORS

KINDS = ("f.csv", "f.hdf5", "f.parquet", "pair")
VECTORS_OF = {"a.jpg": [1.0, 0.0, 2.0], "b.jpg": [0.0, 1.0, 1.0], "c.jpg": [3.0, 0.1, 0.0]}


def embeddings(index):
    return {d.uri: d.embedding for d in index.store.documents()}


def opened(tmp_path, name="new.duckdb", **options):
    return ImageIndex(tmp_path / name, **options)


def write_csv(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def small(tmp_path):
    """A CSV as a script writes it, without names above."""
    rows = [",".join([name, *map(str, values)]) for name, values in VECTORS_OF.items()]
    return write_csv(tmp_path / "small.csv", rows)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_is_imported_bit_by_bit(index, tmp_path, kind):
    for uri in list(embeddings(index))[:2]:
        index.update(uri, labels=["one", "two"])
    report = index.export_features(tmp_path / kind)
    assert (report.features, report.dimensions, report.without_feature) == (12, 16, 0)
    with opened(tmp_path) as new:
        assert new.import_features(tmp_path / kind).to_dict()["added"] == 12
        before, after = embeddings(index), embeddings(new)
        assert before.keys() == after.keys()
        assert all((before[uri] == after[uri]).all() for uri in before)
        labels = {d.uri: d.labels for d in new.store.documents()}
        if kind != "f.csv":
            assert labels == {d.uri: d.labels for d in index.store.documents()}
        again = new.import_features(tmp_path / kind)
        assert (again.added, again.updated, again.rejected) == (0, 12, 0)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_such_an_index_says_what_it_cannot_do(small, photos, cat, tmp_path):
    with opened(tmp_path) as index:
        index.import_features(small)
        with pytest.raises(ConfigurationError, match="no model to analyze a picture"):
            index.search(image=cat, strategy="dense-cosine")
        for asked in ({"text": "dog"}, {"vector": [1, 2, 3], "strategy": "bm25"}):
            with pytest.raises(QueryError, match="have no synsets"):
                index.search(**asked)
        with pytest.raises(QueryError, match="3 dimensions, the query's has 2"):
            index.search(vector=[1.0, 2.0])
        for wrong in ([[1, 2, 3]], [1, 2, float("nan")], ["x"], [1, 2, 3j]):
            with pytest.raises(QueryError, match="row of"):
                index.search(vector=wrong)
        with pytest.raises(ConfigurationError, match="import_features"):
            index.add(photos)
        assert index.remove("a.jpg") == 1  # relative paths begin where we are
        assert index.stats()["documents"] == index.count() == 2


def test_such_an_index_finds_the_words_that_it_is_taught(index, cat, tmp_path):
    index.export_features(tmp_path / "f.csv")
    with opened(tmp_path) as plain:
        plain.import_features(tmp_path / "f.csv")
        with pytest.raises(QueryError, match="what is liked has no synsets"):
            plain.search(where="format:unknown").refine(like=0)
        taught = plain.teach("mine", [cat, cat.with_name("cat.1.png")])
        hits = plain.search("mine", k=20)
        assert hits.ranked == taught.pictures > 0
        assert [hit.synsets[0].score for hit in hits] == [hit.score for hit in hits]
        assert plain.search(cat).query.strategy == "dense-cosine"
        with pytest.raises(QueryError, match="a strategy dense-"):
            plain.search("mine", vector=np.ones(16))


def test_a_vector_needs_a_dense_strategy_where_there_are_synsets(index, cat):
    vector = index.get(cat).embedding
    assert index.search(vector=vector, strategy="dense-euclidean")[0].path == cat
    assert str(index.query(vector=vector, strategy="dense-dot")) == "image: a vector"
    with pytest.raises(QueryError, match="differ in length: one has"):
        index.search(cat, vector=[1.0], strategy="dense-dot")
    with pytest.raises(QueryError, match="has no visual words"):
        index.facets(index.query(cat, strategy="visual-words"))
    with pytest.raises(QueryError, match="a strategy dense-"):
        index.search(vector=vector)
    with pytest.raises(QueryError, match="min_score is no number that"):
        index.search(vector=vector, strategy="dense-dot", min_score=float("nan"))


def test_a_named_model_whose_dimensions_fit_analyzes_new_pictures(index, cat, tmp_path, small):
    index.export_features(tmp_path / "f.csv", where={"filename": {"wildcard": "dog*"}})
    with opened(tmp_path) as plain:
        plain.import_features(tmp_path / "f.csv")
    with opened(tmp_path, model="fake") as named:
        hits = named.search(image=cat)
        assert len(hits) == 6
        assert hits.query.strategy == "dense-cosine"
    with opened(tmp_path, "three.duckdb") as three:
        three.import_features(small)
    with (
        opened(tmp_path, "three.duckdb", model="fake") as three,
        pytest.raises(AnalyzerMismatchError, match="3 dimensions; those of fake have 16"),
    ):
        three.search(image=cat)


def test_a_new_index_with_a_model_takes_new_pictures_as_well(index, photos, cat, tmp_path):
    index.export_features(tmp_path / "f.parquet", where={"filename": {"wildcard": "dog*"}})
    with opened(tmp_path, model="fake") as new:
        new.import_features(tmp_path / "f.parquet")
        assert new.search(image=cat, strategy="dense-chi2")
        new.add(photos / "cats")
        assert new.count() == 12
        assert new.search(image=cat)[0].path == cat
    with (
        opened(tmp_path, "other.duckdb", model="fake") as other,
        pytest.raises(ExchangeError, match="3 features a row, the deep feature"),
    ):
        other.import_features(write_csv(tmp_path / "x.csv", ["a,1,2,3"]))


def test_documents_that_are_there_keep_all_but_their_feature(index, cat, tmp_path):
    before = index.get(cat)
    values = np.arange(16, dtype=np.float32)
    line = ",".join([str(cat), *map(str, values)])
    assert index.import_features(write_csv(tmp_path / "f.csv", [line])).updated == 1
    after = index.get(cat)
    assert (after.embedding == values).all()
    assert (after.terms, after.sha256, after.width) == (before.terms, before.sha256, before.width)


def test_csv_with_and_without_names_and_relative_paths(index, tmp_path, small):
    headed = write_csv(tmp_path / "h.csv", ["path,f1,f2,f3", *small.read_text().split()])
    with opened(tmp_path, "1.duckdb") as one, opened(tmp_path, "2.duckdb") as two:
        one.import_features(small, folder=tmp_path / "icons")
        two.import_features(headed, folder=tmp_path / "icons")
        assert set(embeddings(one)) == {str(tmp_path / "icons" / name) for name in VECTORS_OF}
        assert embeddings(one).keys() == embeddings(two).keys()
    index.export_features(tmp_path / "f.csv")
    with (tmp_path / "f.csv").open(newline="") as file:
        names, *rows = csv.reader(file)
    assert names == ["path", *(f"f{i}" for i in range(1, 17))]
    assert len(rows) == 12
    assert {len(row) for row in rows} == {17}


def test_the_arrays_are_what_scripts_read(index, tmp_path):
    for uri in embeddings(index):
        index.update(uri, labels=[])
    index.export_features(tmp_path / "pair")
    names, vectors = (np.load(tmp_path / "pair" / name) for name in (NAMES, VECTORS))
    assert (names.shape, vectors.shape, vectors.dtype) == ((12,), (12, 16), np.float32)
    stored = embeddings(index)
    assert all((stored[name] == row).all() for name, row in zip(names, vectors, strict=True))
    assert not (tmp_path / "pair" / "labels.npy").exists()
    index.export_features(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5") as file:
        assert set(file) == {"image_ids", "features", "labels"}
        assert file["features"].shape == (12, 16)


def test_hdf5_as_a_script_writes_it(tmp_path):
    """Names without folder, numbers as labels, activations with positions in doubles."""
    with h5py.File(tmp_path / "f.hdf5", "w") as file:
        file["image_ids"] = np.array([b"ukbench00000.jpg", b"ukbench00001.jpg"])
        file["features"] = np.arange(2 * 2 * 2 * 3, dtype=float).reshape(2, 2, 2, 3)
        file["labels"] = np.array([1.0, 1.0])
    with opened(tmp_path) as index:
        assert index.import_features(tmp_path / "f.hdf5", folder=tmp_path).added == 2
        found = index.get(tmp_path / "ukbench00001.jpg")
        assert found.labels == ("1",)
        assert found.embedding.tolist() == [16.5, 17.5, 18.5]
        assert len(index.search(image=found, where={"label": "1"})) == 2


BAD_LINES = [
    ("b.jpg,1,inf,3", "feature 2 is not finite"),
    ("c.jpg,1,2,1e39", "feature 3 is not finite, or too large"),
    ("d.jpg,1,2", "it has 2 features, row 1 and the others have 3"),
    ("e.jpg,1,,3", "feature 2 is empty"),
    ("f.jpg,1,x,3", "'x' is no number"),
    ("g.jpg", "there are no features"),
    (",1,2,3", "the path is missing"),
    ("./a.jpg,1,2,3", "stands twice"),
]


def test_a_bad_line_is_named_and_the_others_go_on(tmp_path):
    lines = ["a.jpg,1,2,3", *(line for line, _ in BAD_LINES), "", "z.jpg,4,5,6"]
    with opened(tmp_path) as index:
        report = index.import_features(write_csv(tmp_path / "f.csv", lines))
    assert (report.rows, report.added, report.rejected) == (10, 2, 8)
    for number, (rejected, (_, reason)) in enumerate(
        zip(report.rejected_rows, BAD_LINES, strict=True), start=2
    ):
        assert rejected.row == number
        assert reason in rejected.reason


@pytest.mark.parametrize(
    ("first", "rows", "rejected"),
    [
        ("path,width,height,f3", 2, 0),
        ("path,0,1,2", 2, 0),  # as pandas writes columns without names
        (",0,1,2", 2, 0),
        ("0.jpg,0,1,2", 3, 0),
        ("x.jpg,1;5,2,3", 3, 1),
        ("x.jpg,,2,3", 3, 1),
    ],
)
def test_the_first_line_of_a_csv_is_of_names_or_counts(tmp_path, first, rows, rejected):
    with opened(tmp_path) as index:
        file = write_csv(tmp_path / "f.csv", [first, "a.jpg,1,2,3", "b.jpg,4,5,6"])
        report = index.import_features(file)
    assert (report.rows, report.rejected) == (rows, rejected)


def npy(path, array, *, pickled=False):
    np.save(path, array, allow_pickle=pickled)


def bad_files(folder):
    """Each kind of a file that cannot be read, and what is said of it."""
    (folder / "empty.csv").write_text("")
    (folder / "semicolons.csv").write_text("a.jpg;1;2\nb.jpg;1;2\n")
    (folder / "quote.csv").write_text('a.jpg,1,2\n"b.jpg,1,2\n')
    (folder / "text.h5").write_text("no HDF5")
    (folder / "text.parquet").write_text("no Parquet")
    with h5py.File(folder / "less.h5", "w") as file:
        file["features"] = np.zeros((2, 3))
    with h5py.File(folder / "lengths.h5", "w") as file:
        file["features"], file["image_ids"] = np.zeros((2, 3)), np.array([b"a"])
    columns = {"name": ["a"], "features": [[1.0]]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "less.parquet")
    for name in ("pickled", "half", "shape", "header", "no-text"):
        (folder / name).mkdir()
    npy(folder / "header" / NAMES, np.array(["a"]))
    header = (folder / "header" / NAMES).read_bytes().replace(b"(1,)", b"(1, ")
    (folder / "header" / NAMES).write_bytes(header)
    npy(folder / "no-text" / NAMES, np.array([0x7FFFFFFF], np.uint32).view("U1"))
    npy(folder / "no-text" / VECTORS, np.zeros((1, 3)))
    npy(folder / "pickled" / NAMES, np.array(["a", 1], dtype=object), pickled=True)
    npy(folder / "pickled" / VECTORS, np.zeros((2, 3)))
    npy(folder / "half" / NAMES, np.array(["a"]))
    npy(folder / "shape" / NAMES, np.array(["a", "b"]))
    npy(folder / "shape" / VECTORS, np.zeros(2))
    return {
        "missing.csv": "no such file",
        "other.txt": "no file of features by its name",
        "empty.csv": "no rows of features",
        "semicolons.csv": "the first, 1: there are no features",
        "quote.csv": "line 2: unexpected end of data",
        "text.h5": "cannot read",
        "text.parquet": "cannot read",
        "less.h5": "no dataset 'image_ids'; it has features",
        "lengths.h5": "different lengths, 1 and 2",
        "less.parquet": "none of the columns path, uri",
        "pickled": "what was pickled is not read",
        "half": "vectors.npy: no such file",
        "header": "no array of numbers or texts",
        "no-text": "a name or a label is no text",
        "shape": r"shape \(2,\)",
    }


def test_files_that_cannot_be_read_make_no_index(tmp_path):
    for name, message in bad_files(tmp_path).items():
        with opened(tmp_path) as index:
            with pytest.raises(ExchangeError, match=message) as caught:
                index.import_features(tmp_path / name)
            assert name in str(caught.value)
            assert not index.exists, name


def test_parquet_of_other_tools_and_of_documents(index, tmp_path):
    columns = {"path": ["a", None, "c", "d"], "features": [[1.0], [1.0], None, [None]]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "f.parquet")
    with opened(tmp_path) as new:
        report = new.import_features(tmp_path / "f.parquet")
    assert (report.added, [row.row for row in report.rejected_rows]) == (1, [2, 3, 4])
    for labels, expected in (([["x", None], [""]], "x"), ([1.0, None], "1"), ([None, b"y"], "y")):
        columns = {"path": ["a", "b"], "features": [[1.0], [2.0]], "labels": labels}
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "l.parquet")
        with opened(tmp_path, f"{expected}.duckdb") as new:
            new.import_features(tmp_path / "l.parquet")
            assert {document.labels for document in new.store.documents()} == {(expected,), ()}
    index.export(tmp_path / "a.parquet")
    with opened(tmp_path, "2.duckdb") as new:
        assert new.import_features(tmp_path / "a.parquet").added == 12


def test_an_existing_file_is_not_overwritten_unless_told(index, tmp_path):
    for name in ("f.csv", "pair"):
        index.export_features(tmp_path / name)
        with pytest.raises(ExchangeError, match="exists; give another name"):
            index.export_features(tmp_path / name)
        assert index.export_features(tmp_path / name, force=True).features == 12
    (tmp_path / "pair" / "mine.npy").write_text("mine")
    for place in ("pair", "pair/vectors.npy"):
        with pytest.raises(ExchangeError, match=r"other files in it, such as mine\.npy"):
            index.export_features(tmp_path / place, force=True)
    assert sorted(p.name for p in (tmp_path / "pair").iterdir()) == [
        "filenames.npy", "labels.npy", "mine.npy", "vectors.npy",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["label", "class"])
def test_labels_are_not_taken_for_features(tmp_path, name):
    (tmp_path / "f.csv").write_text(f"path,0,1,{name}\na,0.5,0.25,1\n")
    with ImageIndex(tmp_path / "new.duckdb") as new:
        with pytest.raises(ExchangeError, match=f"the column '{name}' is no feature"):
            new.import_features(tmp_path / "f.csv")
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file.update({"image_ids": ["a"], "features": [[0.5, 0.25]], "label": ["x"]})
        new.import_features(tmp_path / "f.h5")
        assert [document.labels for document in new.store.documents()] == [("x",)]


@pytest.mark.parametrize("label", ["a;b", "a\0"])
def test_labels_that_one_text_cannot_hold_are_refused(index, cat, tmp_path, label):
    index.update(cat, labels=[label])
    with pytest.raises(ExchangeError, match="write Parquet instead"):
        index.export_features(tmp_path / "f.h5")
    assert not (tmp_path / "f.h5").exists()
    assert index.export_features(tmp_path / "f.parquet").features == 12


def test_an_index_of_features_moves_as_others_do(small, tmp_path):
    with opened(tmp_path) as index, opened(tmp_path, "2.duckdb") as second:
        index.import_features(small)
        index.export(tmp_path / "all.jsonl")
        assert second.import_(tmp_path / "all.jsonl").added == 3
        assert second.import_features(small).updated == 3
        wanted = [hit.score for hit in index.search(vector=[1, 2, 3])]
        assert [hit.score for hit in second.search(vector=[1, 2, 3])] == wanted


def test_commands(run, place, photos, tmp_path):
    new = tmp_path / "new.duckdb"
    found = run("export", "--features", tmp_path / "f.csv", "--index", place, "--json")
    assert json.loads(found.stdout)["features"] == 12
    assert "shows no layers" in run("models", "--layers", "fake", code=1).stderr
    assert "12 added" in run("import", "--features", tmp_path / "f.csv", "--index", new).stdout
    picture = photos / "cats" / "cat.0.png"
    hits = run("search", "--image", picture, "--index", new, "--json")
    assert json.loads(hits.stdout)["strategy"] == "dense-cosine"
    numbers = ",".join(["1"] * 16)
    np.save(tmp_path / "v.npy", np.ones((1, 16)))
    (tmp_path / "v.txt").write_text(numbers)
    for source in (tmp_path / "v.npy", tmp_path / "v.txt", "-"):
        found = run("search", "--vector", source, "--index", new, "--json", stdin=numbers)
        assert len(json.loads(found.stdout)["hits"]) == 10
    assert "cannot be read" in run("search", "--vector", "no.npy", "--index", new, code=1).stderr
    Image.new("RGB", (9, 9)).save(tmp_path / "other.png")
    assert "no model" in run("search", "--image", tmp_path / "other.png", "-i", new, code=1).stderr
    run("export", "a.jsonl", "--features", "f.csv", "--index", place, code=2)
    run("import", "--features", "f.csv", "--pictures", "p", "--index", new, code=2)
    run("import", "a.jsonl", "--model", "fake", "--index", new, code=2)
