"""The commands ``facets`` and ``duplicates``, and the verbs of ImageIndex behind them."""

from __future__ import annotations

import re
import shutil

import pytest
from PIL import Image

from imgsearch_es import ImageIndex, folder_label
from imgsearch_es.errors import QueryError
from tests.fakes import register


@pytest.fixture(scope="module")
def photos(stage, tmp_path_factory):
    """The photos, one of them twice and one once more in another format."""
    folder = shutil.copytree(stage / "pristine", tmp_path_factory.mktemp("doubled") / "photos")
    shutil.copy(folder / "cats" / "cat.0.png", folder / "dogs" / "copy.png")
    with Image.open(folder / "dogs" / "dog.1.png") as picture:
        picture.save(folder / "dogs" / "again.bmp")
    return folder


@pytest.fixture(scope="module")
def indexed(photos):
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        with ImageIndex(photos.parent / "pets.duckdb", model="fake") as index:
            index.add(photos, labels=folder_label)
    return index.location


@pytest.fixture
def place(run, indexed, tmp_path):
    return shutil.copy(indexed, tmp_path)


def test_facets(run, place):
    out = run("facets", "-i", place).stdout
    assert re.search(r"dogs +8 *\n", out)
    assert re.search(r"cats +6 *\n", out)
    assert re.search(r"<256 +14 *\n", out)
    assert all(heading in out for heading in ("top_synset", "label", "format", "width", "bytes"))


def test_facets_json(asked, place, index):
    found = asked("facets", "-i", place, "--field", "label")
    assert found == {"label": [{"value": "dogs", "count": 8}, {"value": "cats", "count": 6}]}
    fields = ("--field", "format", "--field", "width", "--size", "1")
    found = asked("facets", "-i", place, *fields)
    assert found == {
        "format": [{"value": "PNG", "count": 13}],
        "width": [{"value": "<256", "count": 14}],
    }


def test_facets_of_words(asked, place, index, photos):
    word = index.get(photos / "cats" / "cat.0.png").terms[0].key
    where = ("--where", "label=cats")
    found = asked("facets", word, "-i", place, *where)
    hits = index.search(text=word, where={"label": "cats"}, k=100)
    assert found["label"] == [{"value": "cats", "count": hits.total}]
    assert sum(item["count"] for item in found["top_synset"]) == hits.total
    assert found == index.facets(hits.query)


def test_facets_of_nothing_and_mistakes(run, place):
    out = run("facets", "-i", place, "--field", "label", "tench", "--where", "label=none").stdout
    assert out == "label: none\n"
    wrong = run("facets", "-i", place, "--field", "uri", code=1)
    assert "there is no facet of 'uri'" in wrong.stderr
    assert "no condition" in run("facets", "-i", place, "--where", "label", code=1).stderr


def test_duplicates(run, place):
    out = run("duplicates", "-i", place).stdout.splitlines()
    assert out[0] == "1. 2 pictures, the same bytes"
    assert re.fullmatch(r" +1\.000 +30 x 20 +2 KB +\S+cat\.0\.png", out[1])
    assert out[2].endswith("copy.png")
    assert out[3] == "1 more than one of each, in groups: 1"


def test_near_duplicates_json(asked, place, photos):
    groups = asked("duplicates", "-i", place, "--near", "0.9999")
    names = [[picture["uri"].rpartition("/")[2] for picture in g["pictures"]] for g in groups]
    assert names == [["cat.0.png", "copy.png"], ["again.bmp", "dog.1.png"]]
    assert [group["exact"] for group in groups] == [True, False]
    assert groups[1]["pictures"][1]["similarity"] == pytest.approx(1)


def test_no_duplicates(run, asked, place, index, photos, tmp_path):
    index.remove(photos / "dogs" / "copy.png")
    assert run("duplicates", "-i", place).stdout == "none\n"
    assert asked("duplicates", "-i", place) == []
    assert "cosine above 0" in run("duplicates", "-i", place, "--near", "2", code=1).stderr
    assert "no index" in run("duplicates", "-i", tmp_path / "none.duckdb", code=1).stderr


def test_more_like(index, photos):
    cat = photos / "cats" / "cat.0.png"
    hits = index.more_like(cat, k=5)
    alone = index.search(image=cat, k=5, exclude_self=True)
    assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in alone]
    assert index.get(cat).id not in [hit.id for hit in hits]
    dense = index.more_like(index.get(cat).id, k=1, strategy="dense-cosine")
    assert dense[0].filename == "copy.png"
    with pytest.raises(QueryError, match="no picture"):
        index.more_like(photos / "cats" / "nobody.png")


def test_search_many_says_which_query_is_wrong_and_answers_the_rest(index, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    dog = {"text": "dog"}
    first, wrong, last, unread = index.search_many([dog, {**dog, "colour": "red"}, dog,
                                                    {"image": broken}])  # fmt: skip
    assert (
        [hit.id for hit in first]
        == [hit.id for hit in last]
        == [h.id for h in index.search(text="dog")]
    )
    assert str(wrong).startswith("query 1: ")
    assert "colour" in str(wrong)
    assert "query 3: " in str(unread)
    assert "broken.jpg" in str(unread)
    with pytest.raises(QueryError, match=r"query 0: .*glorbnax"):
        index.search_many([{"text": "glorbnax"}])
