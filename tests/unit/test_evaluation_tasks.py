"""Tasks: who is relevant to whom by labels, names, files and the ground truth of benchmarks."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import EvaluationError, QueryError
from imgsearch_es.evaluation import Collection, Judgements, Run, Topic, make_task, score
from imgsearch_es.evaluation.systems import System, parse_systems
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.strategies import Fusion


def document(uri: str, *labels: str) -> Document:
    return Document(
        id=picture_id(uri),
        uri=uri,
        filename=uri.rpartition("/")[2],
        sha256=f"sha256 of {Path(uri).name}",
        width=1,
        height=1,
        bytes=1,
        format="PNG",
        indexed_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
        terms=(Term("tabby", 0.5),),
        labels=labels,
        embedding=np.ones(2, dtype=np.float32),
    )


def collection(*names: str, folder: str = "/photos") -> Collection:
    return Collection(document(f"{folder}/{name}") for name in names)


def named(task, pictures: Collection) -> dict[str, set[str]]:
    judged = task.judgements.renamed(pictures.name)
    return {query: set(judged.relevant(query)) for query in judged.queries}


# -- collections -----------------------------------------------------------------------------------


def test_names_do_not_depend_on_the_folder():
    here = collection("cats/my cat.jpg", "cats/100%.jpg", "dogs/rex.jpg")
    there = collection("cats/my cat.jpg", "cats/100%.jpg", "dogs/rex.jpg", folder="/other/place")
    assert [item.name for item in here.items] == [
        "cats/100%25.jpg", "cats/my%20cat.jpg", "dogs/rex.jpg",
    ]  # fmt: skip
    assert here.fingerprints == there.fingerprints
    assert {item.id for item in here.items}.isdisjoint(item.id for item in there.items)


def test_pictures_are_found_by_all_their_names():
    pictures = collection("cats/my cat.jpg", "dogs/my cat.jpg", "dogs/rex.jpg")
    key = picture_id("/photos/cats/my cat.jpg")
    for text in ("cats/my cat.jpg", "cats/my%20cat.jpg", "/photos/cats/my cat.jpg", key,
                 "file:///photos/cats/my%20cat.jpg"):  # fmt: skip
        assert pictures.find(text) == key
    assert pictures.find("rex.jpg") == pictures.find("rex") == picture_id("/photos/dogs/rex.jpg")
    assert pictures.name(key) == "cats/my%20cat.jpg"
    assert pictures.name("words") == "words"
    with pytest.raises(EvaluationError, match=r"several pictures are called my cat\.jpg"):
        pictures.find("my cat.jpg")
    with pytest.raises(EvaluationError, match=r"no picture none\.jpg"):
        pictures.find("none.jpg")


# -- by labels and names ---------------------------------------------------------------------------


def test_by_label_folder_and_name():
    pictures = Collection(
        [
            document("/p/a/cat.1.jpg", "cat", "pet"),
            document("/p/a/cat.2.jpg", "cat"),
            document("/p/b/dog.1.jpg", "pet"),
            document("/p/b/me.jpg"),
        ]
    )
    by_label = make_task("labels", pictures)
    assert named(by_label, pictures) == {
        "a/cat.1.jpg": {"a/cat.2.jpg", "b/dog.1.jpg"},
        "a/cat.2.jpg": {"a/cat.1.jpg"},
        "b/dog.1.jpg": {"a/cat.1.jpg"},
    }
    assert by_label.notes == ("1 pictures have nothing relevant to them and are not searched for",)
    by_folder = make_task("folder", pictures)
    assert named(by_folder, pictures)["b/me.jpg"] == {"b/dog.1.jpg"}
    by_name = make_task("name:{label}.{number}.jpg", pictures)
    assert named(by_name, pictures) == {
        "a/cat.1.jpg": {"a/cat.2.jpg"}, "a/cat.2.jpg": {"a/cat.1.jpg"},
    }  # fmt: skip
    assert len(by_name.notes) == 2
    loose = make_task("name:{label}.*", pictures)
    assert len(loose.judgements) == 2
    for source in ("labels", "folder", "name:{label}.{number}.jpg"):
        with pytest.raises(EvaluationError, match="nothing is relevant"):
            make_task(source, collection("a/x.jpg", "b/y.jpg"))
    with pytest.raises(EvaluationError, match=r"needs \{label\} once"):
        make_task("name:dog.*.jpg", pictures)


# -- benchmarks ------------------------------------------------------------------------------------


def test_labels_asked_as_words():
    pictures = Collection([document("/p/a.png", "cat", "red"), document("/p/b.png", "cat")])
    task = make_task("words", pictures)
    assert named(task, pictures) == {"cat": {"a.png", "b.png"}, "red": {"a.png"}}
    assert task.topics == {"cat": Topic(text="cat"), "red": Topic(text="red")}
    with pytest.raises(EvaluationError, match="no picture of the index has a label"):
        make_task("words", collection("a.png"))


def test_ukbench():
    pictures = collection(*(f"ukbench{i:05}.jpg" for i in range(8)))
    task = make_task("ukbench", pictures)
    assert task.measures == ("NS", "NS%")
    assert named(task, pictures)["ukbench00005.jpg"] == {f"ukbench{i:05}.jpg" for i in range(4, 8)}
    perfect = Run("r", {q: [(d, 1.0) for d in task.judgements.of(q)] for q in task.topics})
    assert score(task.judgements, perfect, task.measures).mean("NS") == 4
    with pytest.raises(EvaluationError, match="has 3 with the numbers 4 to 7"):
        make_task("ukbench", collection(*(f"ukbench{i:05}.jpg" for i in range(7))))
    with pytest.raises(EvaluationError, match=r"me\.jpg has none"):
        make_task("ukbench", collection("me.jpg", "ukbench00000.jpg"))


def test_holidays():
    pictures = collection("100000.jpg", "100001.jpg", "100100.jpg", "100101.jpg", "100102.jpg")
    task = make_task("holidays", pictures)
    assert named(task, pictures) == {
        "100000.jpg": {"100001.jpg"},
        "100100.jpg": {"100101.jpg", "100102.jpg"},
    }
    assert "2 queries of the 500 of INRIA Holidays" in task.notes[0]
    assert task.measures[0] == "AP-trapezoid"
    whole = collection(*(f"{1000 + i}{j:02}.jpg" for i in range(500) for j in range(2)))
    assert make_task("holidays", whole).notes == ()
    with pytest.raises(EvaluationError, match="Holidays' queries"):
        make_task("holidays", collection("100001.jpg"))


def oxford_files(folder: Path) -> Path:
    folder.mkdir()
    (folder / "hall_1_query.txt").write_text("oxc1_hall_000001 1.5 2 30 40\n")
    (folder / "hall_1_good.txt").write_text("hall_000001\nhall_000002\n")
    (folder / "hall_1_ok.txt").write_text("hall_000003\nhall_000009\n")
    (folder / "hall_1_junk.txt").write_text("hall_000004\n")
    return folder


def test_oxford(tmp_path):
    truth = oxford_files(tmp_path / "gt")
    pictures = collection(*(f"hall_{i:06}.jpg" for i in range(1, 6)))
    task = make_task(f"oxford:{truth}", pictures)
    key = pictures.find("hall_000001")
    assert task.topics == {"hall_1": Topic(key, region=(1.5, 2.0, 30.0, 40.0))}
    # the query's own picture is in the collection and good, as in the benchmark's program
    assert {pictures.name(d) for d in task.judgements.relevant("hall_1")} == {
        "hall_000001.jpg", "hall_000002.jpg", "hall_000003.jpg", "hall_000009",
    }  # fmt: skip
    assert task.judgements.junk["hall_1"] == {pictures.find("hall_000004")}
    assert "1 queries of the 55" in task.notes[0]
    assert "1 judged pictures are not in the index, such as hall_000009" in task.notes[1]
    junk_first = Run("r", {"hall_1": [(pictures.find(f"hall_{i:06}"), 9.0 - i) for i in (4, 1)]})
    figures = score(task.judgements, junk_first, "AP-trapezoid,P@1")
    assert figures.of("hall_1") == {"AP-trapezoid": 0.25, "P@1": 1.0}
    with pytest.raises(EvaluationError, match="no ground truth"):
        make_task(f"paris:{tmp_path}", pictures)
    with pytest.raises(EvaluationError, match="--pictures"):
        make_task(f"oxford:{truth}", collection("x.jpg"))
    (truth / "hall_000001.jpg").write_bytes(b"")
    with pytest.raises(EvaluationError, match="none of the pictures of Oxford5k"):
        make_task(f"oxford:{truth}", collection("x.jpg"), pictures=truth)
    (truth / "hall_1_query.txt").write_text("\n")
    with pytest.raises(EvaluationError, match=r"hall_1_query.txt: a region is four numbers"):
        make_task(f"oxford:{truth}", pictures)


REVISITED = {
    "imlist": ["a", "b", "c", "d"],
    "qimlist": ["q", "r"],
    "gnd": [
        {"bbx": [0, 0, 5, 5], "easy": [0], "hard": [1], "junk": [2]},
        {"bbx": [0, 0, 5, 5], "easy": [], "hard": [3], "junk": []},
    ],
}


@pytest.mark.parametrize(
    ("level", "relevant", "junk"),
    [
        ("easy", {"q": {"a"}}, {"q": {"b", "c"}}),
        ("medium", {"q": {"a", "b"}, "r": {"d"}}, {"q": {"c"}, "r": set()}),
        ("hard", {"q": {"b"}, "r": {"d"}}, {"q": {"a", "c"}, "r": set()}),
    ],
)
def test_revisited(tmp_path, level, relevant, junk):
    path = tmp_path / "gnd_roxford5k.json"
    path.write_text(json.dumps(REVISITED, indent=1))
    pictures = collection("a.jpg", "b.jpg", "c.jpg", "d.jpg", "q.jpg", "r.jpg")
    task = make_task(f"revisited-{level}:{path}", pictures)
    stem = {item.id: item.stem for item in pictures.items}
    judged = task.judgements.renamed(lambda key: stem.get(key, key))
    assert {q: judged.relevant(q) for q in judged.queries} == relevant
    assert {q: judged.junk[q] - {"q", "r"} for q in judged.queries} == junk
    assert all({"q", "r"} <= judged.junk[q] for q in judged.queries)  # not in the collection
    assert ("1 queries have nothing relevant at the level easy" in task.notes) == (level == "easy")


def test_revisited_with_queries_apart(tmp_path):
    path = tmp_path / "gnd.json"
    path.write_text(json.dumps(REVISITED))
    pictures = collection("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    for name in "qr":
        (tmp_path / f"{name}.jpg").write_bytes(b"")
    task = make_task(f"revisited-medium:{path}", pictures, pictures=tmp_path)
    assert task.topics["q"].image == str(tmp_path / "q.jpg")
    with pytest.raises(EvaluationError, match="--pictures"):
        make_task(f"revisited-medium:{path}", pictures)
    with pytest.raises(EvaluationError, match="levels easy, medium, hard"):
        make_task(f"revisited-extreme:{path}", pictures)
    for odd in ({"imlist": [], "qimlist": ["a"]}, REVISITED | {"qimlist": ["q", 7.5]}):
        path.write_text(json.dumps(odd))
        with pytest.raises(EvaluationError, match="no revisited ground truth"):
            make_task(f"revisited-easy:{path}", pictures)
    with pytest.raises(EvaluationError, match="is a pickle"):
        make_task("revisited-easy:gnd_roxford5k.pkl", pictures)


# -- a person's own --------------------------------------------------------------------------------


def test_own_judgements_leave_the_query_out(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("query,document,grade\na.jpg,b.jpg,2\nb.jpg,b.jpg,1\nb.jpg,gone.jpg,1\n")
    pictures = collection("a.jpg", "b.jpg")
    task = make_task(path, pictures)
    a, b = pictures.find("a.jpg"), pictures.find("b.jpg")
    assert task.judgements.of(a) == {b: 2}
    assert task.judgements.junk == {a: {a}}  # b is judged relevant to itself
    assert task.topics == {a: Topic(a), b: Topic(b)}
    assert "gone.jpg" in task.notes[0]


def test_a_docno_of_two_pictures_is_none_of_them():
    documents = [replace(document(f"/{name}"), metadata={"docno": 7}) for name in "ab"]
    with pytest.raises(EvaluationError, match="several pictures are called 7"):
        Collection(documents).find("7")


def test_queries_apart(tmp_path):
    (tmp_path / "queries.csv").write_text(
        "query,image,text\nq1,,tabby cat\nq2,new.jpg,\nq3,a.jpg,dog\nq4,,x\n"
    )
    (tmp_path / "new.jpg").write_bytes(b"")
    (tmp_path / "j.qrels").write_text("q1 0 a.jpg 1\nq2 0 b.jpg 1\nq3 0 b.jpg 1\n")
    pictures = collection("a.jpg", "b.jpg")
    task = make_task(tmp_path / "j.qrels", pictures, queries=tmp_path / "queries.csv")
    a = pictures.find("a.jpg")
    assert task.topics == {
        "q1": Topic(text="tabby cat"),
        "q2": Topic(str(tmp_path / "new.jpg")),
        "q3": Topic(a, "dog"),
    }
    assert task.judgements.junk == {"q3": {a}}
    assert task.notes == ("1 queries have no judgements and are not asked",)
    with pytest.raises(EvaluationError, match="say what it searches for"):
        make_task(tmp_path / "j.qrels", pictures)
    with pytest.raises(EvaluationError, match="q2 is judged, and not among"):
        make_task(tmp_path / "j.qrels", pictures, queries={"q1": Topic(text="cat")})
    with pytest.raises(EvaluationError, match="are known"):
        make_task("labels", pictures, queries=tmp_path / "queries.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image\na.jpg\n", "no column query"),
        ("query,text\nq,cat\nq,dog\n", "line 3: the query 'q' is empty or comes a second time"),
        ("query,image\nq,none.jpg\n", "line 2: none.jpg is neither in the index nor a file"),
        ("query,text\nq,\n", "line 2: a query needs a picture, words or both"),
        ("query,text\n", "holds no queries"),
    ],
)
def test_mistakes_in_queries_are_named(tmp_path, text, message):
    (tmp_path / "queries.csv").write_text(text)
    with pytest.raises(EvaluationError, match=message):
        make_task(Judgements({"q": {}}), collection("a.jpg"), queries=tmp_path / "queries.csv")


# -- systems ---------------------------------------------------------------------------------------


def test_short_names_of_systems():
    names = "auto, bm25:k1=1.5:b=0.3,dense-cosine:candidates=50,sqrt=1+dense-cosine=2," \
        "auto+sqrt:rrf:window=20"  # fmt: skip
    systems = parse_systems(names)
    assert [system.name for system in systems] == names.replace(" ", "").split(",")
    assert [dict(system.options) for system in systems] == [
        {"strategy": "auto"},
        {"strategy": "bm25", "parameters": {"k1": 1.5, "b": 0.3}},
        {"strategy": "dense-cosine", "approximate": True, "candidates": 50},
        {"fuse": Fusion({"sqrt": 1.0, "dense-cosine": 2.0})},
        {"fuse": Fusion({"auto": 1.0, "sqrt": 1.0}, "rrf", window=20)},
    ]
    own = System("mine", {"strategy": "auto", "feedback": 3})
    assert parse_systems([own, "sqrt"])[0] is own


@pytest.mark.parametrize(
    "text",
    ["best", "", "auto,auto", "bm25:k1", "bm25:k1=x", "bm25:k1=1:k1=2", "auto+auto", "auto+best",
     "auto+sqrt:c=1", "auto+sqrt:window=5", "auto=x+sqrt", ":"],
)  # fmt: skip
def test_wrong_names_of_systems(text):
    with pytest.raises(QueryError):
        parse_systems(text)
