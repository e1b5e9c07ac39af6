"""imgsearch search --fuse and explain --fuse."""

from __future__ import annotations

import json

import pytest

FUSE = ("--fuse", "image=1,words=0.5,dense-cosine=2")


def query(word, cat):
    return (f"synset:{word}", "--image", cat, *FUSE)


def test_search(run, place, word, cat):
    out = run("search", *query(word, cat), "-i", place, "-k", 2).stdout
    assert "fused: image 1, words 0.5, dense-cosine 2 (sum)" in out
    assert ", exact)" in out


def test_search_by_ranks(run, place, word, cat):
    options = ("--fusion", "rrf", "--rank-constant", 10, "--window", 12, "--json")
    answer = json.loads(run("search", *query(word, cat), "-i", place, *options).stdout)
    assert answer["strategy"] == "rrf"
    for hit in answer["hits"]:
        parts = [p["weight"] / (10 + p["rank"]) for p in hit["parts"] if "rank" in p]
        assert hit["score"] == pytest.approx(sum(parts), rel=1e-6)


def test_a_part_without_a_weight_weighs_1(run, place, cat):
    command = ("search", "--image", cat, "-i", place, "--json")
    one, other = (
        json.loads(run(*command, "--fuse", fuse).stdout)["hits"]
        for fuse in ("image, dense-dot = 1", "image=1,dense-dot=1")
    )
    assert one == other


def test_explain(run, place, word, cat):
    out = run("explain", *query(word, cat), "-i", place, "-k", 1).stdout
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert lines[1] == ["part", "weight", "score", "contribution"]
    assert {"image", "words", "dense-cosine", word} <= {line[0] for line in lines}


def test_explain_a_picture_among_all(run, place, word, cat):
    """By ranks a picture is explained with its rank among all, not among itself."""
    options = ("--fusion", "rrf", "-i", place, "--json")
    found = json.loads(run("search", *query(word, cat), *options, "-k", 12).stdout)["hits"]
    assert len(found) == 12
    for hit in found:
        out = run("explain", *query(word, cat), *options, "--picture", hit["id"]).stdout
        (explained,) = json.loads(out)["explanations"]
        assert (explained["id"], explained["score"]) == (hit["id"], hit["score"])


def test_explain_a_picture_behind_the_window(run, place, cat):
    command = ("--image", cat, "-i", place, "--fuse", "dense-cosine", "--fusion", "rrf")
    found = json.loads(run("search", *command, "-k", 12, "--json").stdout)["hits"]
    last = found[-1]["id"]
    out = run("explain", *command, "--window", 3, "--picture", last).stdout
    assert out.startswith(f"nothing to explain: {last} is not among the best of image: cat.0.png")
