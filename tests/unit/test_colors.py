"""Colors at the door: made pictures are named, found, explained, and added to an index without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.terms import colors_of
from imgsearch_es.errors import QueryError, UnknownWordError
from imgsearch_es.indexing import kept_index
from imgsearch_es.interfaces.html import full_scale
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.vocabulary.colors import COLOR, COLORS
from imgsearch_es.vocabulary.synsets import from_labels, imagenet

FOCAL = {
    "black": (10, 10, 12), "white": (250, 250, 248), "red": (200, 20, 30), "green": (30, 130, 50),
    "yellow": (250, 220, 40), "blue": (30, 70, 190), "brown": (110, 65, 25),
    "orange": (250, 130, 20), "pink": (245, 160, 190), "purple": (110, 40, 140),
    "gray": (128, 128, 128),
}  # fmt: skip


def square(color: str, side: int = 60, on: str = "gray") -> Image.Image:
    """A square in the middle of a picture of 120 x 120."""
    picture = Image.new("RGB", (120, 120), FOCAL[on])
    at = 60 - side // 2
    picture.paste(FOCAL[color], (at, at, at + side, at + side))
    return picture


@pytest.mark.parametrize("color", COLORS)
def test_a_color_has_the_name_that_people_give_it(color):
    (only,) = colors_of(np.asarray(square(color, on=color)))
    assert (only.key, only.score) == (COLOR + color, 1.0)


def test_the_middle_counts_most():
    def red(picture: Image.Image) -> float:
        return {t.key: t.score for t in colors_of(np.asarray(picture))}.get("color:red", 0.0)

    inner, outer = red(square("red")), 1 - red(square("gray", on="red"))
    assert inner == pytest.approx((11 / 16) ** 2, abs=0.01)  # a quarter of the pixels
    assert inner == outer
    assert red(square("red", side=8)) == 0.0  # less than 3 %
    narrow = np.asarray(square("red"))[:, 58:61]
    assert red(Image.fromarray(narrow)) == pytest.approx(11 / 16, abs=0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("squares")
    for color in ("red", "orange", "black"):
        for side in (40, 60, 80):
            square(color, side).save(made / f"{color}{side}.png")
    return made


def test_words_of_colors_are_words(folder, fake_model, tmp_path):
    def names(**request: object) -> list[str]:
        return [hit.filename.removesuffix(".png") for hit in index.search(**request)]

    with ImageIndex(tmp_path / "x.duckdb", model="fake") as index:
        index.add(folder)
        reds = ["red80", "red60", "red40"]
        assert names(text="red") == names(text="Red", where="score(red)>0.1") == reds
        assert names(text="score(red)>0.4", sort="filename") == ["red60", "red80"]
        assert names(text="gray -red -black AND gray")[0] == "orange40"
        hits = index.search(text="color:orange")
        assert hits[0].filename == "orange80.png"
        assert next(iter(hits[0].to_dict()["colors"].items())) == ("orange", hits[0].score)
        (row,) = hits.explain(0).rows
        assert (row.key, row.query_weight, row.document_score) == ("color:orange", 1, hits[0].score)
        alone = index.search(text="orange")
        assert alone.hints == ("'orange' was taken for synset:orange; color:orange is the color",)
        tops = {hit.synsets[0].key for hit in hits}
        line = f"black synset:{hits[0].synsets[0].key}"
        both = index.search(text=line)
        assert "black" in both[0].filename
        assert both.total == len(index.search(text=line.replace("black ", "+")))
        assert "color:black" in {row.key for row in both.explain(0).rows}
        assert (
            index.search(text=f"orange synset:{min(tops)}")
            .hints[0]
            .startswith("'orange' was taken for the color; synset:orange is what else it means")
        )
        with pytest.raises(QueryError, match="no color 'teal'; there are black, white"):
            index.search(text="color:teal")
        picture = index.search(image=folder / "red60.png")
        assert not any(term.key.startswith(COLOR) for term in picture.query.terms)
        assert index.verify(sample=3).is_whole


def test_what_counts_is_what_a_word_was_taken_for(folder, fake_model, tmp_path):
    """And a synset that no picture has takes nothing from a color."""
    with ImageIndex(tmp_path / "x.duckdb", model="fake") as index:
        index.add(folder)
        alone, fruit = index.search(text="orange"), index.search(text="synset:orange")
        assert (alone.total, alone.ranking) == (fruit.total, fruit.ranking)
        assert index.query(text="+orange tabby").filters[0].synsets == ("color:orange",)
        seen = {term.key for document in index for term in document.terms}
        unseen = next(key for key in imagenet().keys if key not in seen)
        either = index.search(text=f"black OR synset:{unseen}")
        assert either.ranking == index.search(text="black").ranking != []


def test_no_score_is_higher_than_the_whole_bar(folder, fake_model, tmp_path):
    """Beside synsets, whose scores add up to 1, colors add up to 1."""
    with ImageIndex(tmp_path / "x.duckdb", model="fake") as index:
        index.add(folder)
        best = index.search(text="black", k=1)[0].synsets[0].key
        for strategy in ("auto", "sqrt", "cosine"):
            hits = index.search(text=f"black^9 OR white OR synset:{best}", strategy=strategy)
            full = full_scale(hits.query)
            assert full is None if strategy == "cosine" else full >= hits[0].score
        assert full_scale(index.query(text=best, strategy="cosine")) == 1


def test_an_older_index_says_so_until_it_is_rebuilt(folder, fake_model, tmp_path, monkeypatch):
    made = kept_index.settings_of

    def older(analyzer):
        settings = made(analyzer)
        return replace(settings, vocabulary=imagenet())

    location = tmp_path / "x.duckdb"
    with monkeypatch.context() as patch, ImageIndex(location, model="fake") as index:
        patch.setattr(kept_index, "settings_of", older)
        index.add(folder)
    with ImageIndex(location) as index:
        assert not index.vocabulary.has_colors
        with pytest.raises(UnknownWordError, match="'red' is a color, and this index keeps none"):
            index.search(text="red")
        with pytest.raises(QueryError, match=r"keeps none: `imgsearch reindex` adds them"):
            index.search(text="color:red")
        index.add(square("red", 90), labels=["late"])
        before = index.search(image=folder / "red60.png").ranking
        (folder / "red80.png").rename(tmp_path / "gone.png")
        try:
            report = index.reindex()
        finally:
            (tmp_path / "gone.png").rename(folder / "red80.png")
        assert (report.copied, report.analyzed, report.without_colors) == (10, 0, 2)
        assert [hit.filename for hit in index.search(text="red")] == ["red60.png", "red40.png"]
        assert index.search(image=folder / "red60.png").ranking == before
        assert index.verify().is_whole


def test_a_class_may_be_called_like_a_color():
    vocabulary = from_labels(["red", "car", "dark red"]).with_colors()
    assert vocabulary.resolve("red").keys == ("red",)
    assert vocabulary.resolve("red").color == "color:red"
    assert vocabulary.resolve("grey").keys == ("color:gray",)
    assert vocabulary.resolve("dark red").color == ""
    assert type(vocabulary).from_dict(vocabulary.to_dict()) == vocabulary
    own = from_labels(["color:blue", "car"]).with_colors()
    assert [parse_words(line, own).terms[0].key for line in ('"color:blue"', "color:blue")] == [
        "color_blue",
        "color:blue",
    ]
