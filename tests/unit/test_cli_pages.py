"""``imgsearch search --all``, ``--fuse`` and the options of scoring; ImageIndex.pages."""

from __future__ import annotations

import json

import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import IndexNotFoundError, QueryError


def test_pages(index, cat):
    found = list(index.pages(cat, size=5, where={"label": "cats"}))
    whole = index.search(cat, k=100, where={"label": "cats"})
    assert [len(page) for page in found] == [5, 1]
    assert [h.to_dict() for page in found for h in page] == [h.to_dict() for h in whole]
    assert [page.total for page in found] == [6, 6]
    assert len(found[0].refine(like=[0])) == 5  # a page knows its index
    query = index.query(cat, k=3, offset=2, where={"label": "cats"})
    assert [hit.rank for page in index.pages(query=query, size=2) for hit in page] == [3, 4, 5, 6]


def test_mistakes_come_at_once(index, cat, tmp_path):
    with pytest.raises(QueryError, match="what to search for"):
        index.pages()
    with pytest.raises(QueryError, match="not both"):
        index.pages(cat, query=index.query(cat))
    with pytest.raises(QueryError, match="at most 10000"):
        index.pages(cat, size=10_001)
    with pytest.raises(IndexNotFoundError):
        ImageIndex(tmp_path / "none.duckdb").pages(query=index.query(cat))


def test_all(run, place, cat, index):
    hits = index.search(cat, k=100)
    lines = run("search", "--image", cat, "-i", place, "--all").stdout.splitlines()
    assert len(lines) == len(hits) == 12
    assert [line.split()[-1].rpartition("/")[2] for line in lines] == [h.filename for h in hits]
    assert [int(line.split()[0]) for line in lines] == list(range(1, 13))
    lines = run("search", "--image", cat, "-i", place, "--all", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [hit.to_dict() for hit in hits]
    lines = run("search", "--image", cat, "-i", place, "--all", "--offset", "10").stdout
    assert [int(line.split()[0]) for line in lines.splitlines()] == [11, 12]

    assert run("search", "--image", cat, "-i", place, "--all", "--where", "label=x").stdout == ""


def test_all_is_all(run, place, cat):
    for option in (("-k", "10"), ("--html", "x.html"), ("--rerank",)):
        result = run("search", "--image", cat, "-i", place, "--all", *option, code=2)
        assert "--all gives every hit" in result.stderr


def test_rerank(run, place, cat, index):
    options = ("--strategy", "dense-cosine", "--rerank", "--json")
    found = json.loads(run("search", "--image", cat, "-i", place, *options).stdout)
    hits = index.search(cat, strategy="dense-cosine").rerank()
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in hits]
    assert found["exact"] is False
    result = run("search", "--image", cat, "-i", place, "--rerank", code=1)
    assert "re-ranking compares deep features" in result.stderr


def test_parameters(run, place, cat, index):
    options = ("--image", cat, "-i", place, "--strategy", "bm25", "--json")
    given = ("--parameter", "k1=0.5", "--parameter", "b = 0")
    found = json.loads(run("search", *options, *given).stdout)["hits"]
    hits = index.search(cat, strategy="bm25", parameters={"k1": 0.5, "b": 0})
    assert found == [hit.to_dict() for hit in hits]
    explained = json.loads(run("explain", *options, *given).stdout)["explanations"]
    assert [item["score"] for item in explained] == [hit.score for hit in hits[:3]]


def test_facets_of_conditions_alone(run, place, index):
    where = ("--where", "label=cats", "--field", "label", "--field", "metadata.camera", "--json")
    assert json.loads(run("facets", "-i", place, *where).stdout) == {
        "label": [{"value": "cats", "count": 6}],
        "metadata.camera": [],
    }
    both = index.facets(index.query(text="animal"), ["label"], where={"label": "cats"})
    assert both == index.facets(index.query(text="animal", where={"label": "cats"}), ["label"])


FUSE = ("--fuse", "image=1,words=0.5,dense-cosine=2")


def fused(word, cat):
    return (f"synset:{word}", "--image", cat, *FUSE)


def test_fused_search(run, place, word, cat):
    out = run("search", *fused(word, cat), "-i", place, "-k", 2).stdout
    assert "fused: image 1, words 0.5, dense-cosine 2 (sum)" in out
    assert ", exact)" in out


def test_explain_fused(run, place, word, cat):
    out = run("explain", *fused(word, cat), "-i", place, "-k", 1).stdout
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert lines[1] == ["part", "weight", "score", "contribution"]
    assert {"image", "words", "dense-cosine", word} <= {line[0] for line in lines}


def test_explain_a_picture_among_all(run, place, word, cat):
    """By ranks a picture is explained with its rank among all, not among itself."""
    options = ("--fusion", "rrf", "-i", place, "--json")
    found = json.loads(run("search", *fused(word, cat), *options, "-k", 12).stdout)["hits"]
    assert len(found) == 11  # all but the query's own
    for hit in found:
        out = run("explain", *fused(word, cat), *options, "--picture", hit["id"]).stdout
        (explained,) = json.loads(out)["explanations"]
        assert (explained["id"], explained["score"]) == (hit["id"], hit["score"])


def test_explain_a_picture_behind_the_window(run, asked, place, cat):
    command = ("--image", cat, "-i", place, "--fuse", "dense-cosine", "--fusion", "rrf")
    found = asked("search", *command, "-k", 12)["hits"]
    last = found[-1]["id"]
    out = run("explain", *command, "--window", 3, "--picture", last).stdout
    assert out.startswith(f"nothing to explain: {last} is not among the best of image: cat.0.png")
