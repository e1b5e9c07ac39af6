"""Parts of a picture: cut, analyzed together, remembered, stored and asked for."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.configuration import describe
from imgsearch_es.analysis.filters import PARTS, Preparation, box_of
from imgsearch_es.errors import AnalyzerError, AnalyzerMismatchError, ConfigurationError, QueryError
from imgsearch_es.interfaces.server.uploads import Checker, Uploads
from imgsearch_es.pictures.files import Limits
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.search.query_pictures import Prepared
from imgsearch_es.vocabulary.synsets import imagenet
from tests.fakes import FakeModel, noise

RESIZE = [{"name": "resize", "height": 8, "width": 8}]
TILES = {"image_filters": RESIZE, "views": "tiles"}
pytestmark = pytest.mark.usefixtures("fake_model")


@pytest.fixture
def many(tmp_path) -> Path:
    """Twenty pictures, which are enough for worker processes."""
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(20):
        noise(i, 60 + i, 40).save(folder / f"{i:02}.png")
    return folder


def analyzer(views: str | None = "tiles", *filters: dict[str, object]) -> Analyzer:
    chosen = {"views": views} if views else {}
    return Analyzer({"model": "fake", "term_filters": list(filters), **chosen})


# -- cutting ---------------------------------------------------------------------------------


def test_parts_cover_what_they_say():
    assert PARTS[0] == (0, 0, 100, 100)
    assert {right - left for left, _, right, _ in PARTS[1:6]} == {60}
    assert {bottom - top for _, top, _, bottom in PARTS[6:]} == {40}
    assert len(set(PARTS)) == 15
    for parts in (PARTS[1:6], PARTS[6:]):
        seen = np.zeros((100, 100), bool)
        for left, top, right, bottom in parts:
            seen[top:bottom, left:right] = True
        assert seen.all()


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 7), (640, 427), (1, 5000)])
def test_a_box_is_within_the_picture_and_has_an_area(size):
    for view in range(len(PARTS)):
        left, top, right, bottom = box_of(view, *size)
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


def test_each_view_is_what_the_filters_make_of_that_part():
    picture, prepare = noise(1, 70, 50), Preparation.of(TILES)
    pixels = prepare(picture)
    assert pixels.shape == (6, 8, 8, 3)
    alone = Preparation.of({"image_filters": RESIZE})
    for view in range(6):
        part = picture.crop(box_of(view, 70, 50))
        np.testing.assert_array_equal(pixels[view], alone(part))
    assert Preparation.of({**TILES, "views": "tiles14"})(picture).shape == (15, 8, 8, 3)


def test_fast_decoding_keeps_the_pixels_of_a_tile(tmp_path):
    Image.effect_noise((1600, 1200), 60).convert("RGB").save(tmp_path / "large.jpg")
    filters = [{"name": "resize", "height": 100, "width": 100, "decode": "fast"}]
    for views, size in ((None, (200, 150)), ("tiles", (400, 300)), ("tiles14", (400, 300))):
        config = {"model": "fake", "image_filters": filters}
        made = Analyzer(config if views is None else {**config, "views": views})
        opened = made.open(tmp_path / "large.jpg")
        assert opened.image.size == size
        assert (opened.width, opened.height) == (1600, 1200)


def test_views_of_different_sizes_are_refused():
    prepare = Preparation.of({"image_filters": [], "views": "tiles"})
    with pytest.raises(AnalyzerError, match="end them with center_crop"):
        prepare(noise(1))


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigurationError, match="views is 'tiles' or 'tiles14'"):
        Analyzer({"model": "fake", "views": "parts"})
    with pytest.raises(ConfigurationError, match="not True"):
        Analyzer({"model": "fake", "views": True})


# -- analyzing -------------------------------------------------------------------------------


@pytest.mark.parametrize(("views", "count"), [("tiles", 6), ("tiles14", 15)])
def test_terms_are_the_mean_and_remember_their_best_view(views, count):
    pictures = [noise(i, 40, 30) for i in range(3)]
    parts = [[p.crop(box_of(view, 40, 30)) for view in range(count)] for p in pictures]
    scores = np.stack([_posterior(part) for part in parts])
    keys = imagenet().keys
    for found, expected in zip(analyzer(views).analyze_batch(pictures), scores, strict=True):
        assert len(found.terms) == 1000
        mean = expected.mean(axis=0, dtype=np.float64).astype(np.float32)
        for term in found.terms:
            column = keys.index(term.key)
            assert term.score == mean[column]
            assert term.view == expected[:, column].argmax()


def _posterior(parts: list[Image.Image]) -> np.ndarray:
    alone = analyzer(None)
    return FakeModel("fake").predict(np.stack([alone.prepare(part) for part in parts])).posterior


def test_the_deep_feature_is_that_of_the_whole():
    picture = noise(5, 40, 30)
    with_views, without = analyzer().analyze(picture), analyzer(None).analyze(picture)
    np.testing.assert_array_equal(with_views.embedding, without.embedding)
    assert {term.view for term in without.terms} == {None}


def test_a_hypernym_is_best_where_its_classes_are_together():
    picture = noise(6, 40, 30)
    parts = [picture.crop(box_of(view, 40, 30)) for view in range(6)]
    found = analyzer("tiles", {"name": "hypernyms"}, {"name": "sqrt"}).analyze(picture)
    vocabulary, scores = imagenet(), _posterior(parts).astype(np.float64)
    dog = next(term for term in found.terms if term.key == "dog")
    columns = [vocabulary.keys.index(key) for key in vocabulary.hyponyms("dog")]
    assert dog.view == scores[:, columns].sum(axis=1).argmax()
    assert math.isclose(dog.score, math.sqrt(scores[:, columns].sum() / 6), rel_tol=1e-6)


def test_a_forward_pass_is_bounded(photos, tmp_path, monkeypatch):
    sizes: list[int] = []
    predict = FakeModel.predict

    def counting(self: FakeModel, pixels: np.ndarray):
        sizes.append(len(pixels))
        return predict(self, pixels)

    monkeypatch.setattr(FakeModel, "predict", counting)
    analyzer("tiles14").analyze_batch([noise(i) for i in range(9)])
    assert sum(sizes) == 9 * 15
    assert max(sizes) <= 32
    sizes.clear()
    with ImageIndex(tmp_path / "x.duckdb", model="fake", views="tiles") as index:
        index.add(photos, batch_size=12)
    assert max(sizes) == 12


# -- configuration ---------------------------------------------------------------------------


def test_the_configuration_names_the_views_only_if_there_are_any(tmp_path):
    assert "views" not in analyzer(None).config
    config = analyzer().config
    assert config["views"] == "tiles"
    assert describe(config).startswith("views=tiles -> resize(")
    assert Analyzer(config).config == config
    (tmp_path / "a.toml").write_text('views = "tiles14"\n[model]\nname = "fake"\n')
    assert Analyzer(tmp_path / "a.toml").config["views"] == "tiles14"


def test_an_index_is_searched_with_the_views_it_was_made_with(tmp_path):
    place, picture = tmp_path / "x.duckdb", noise(1)
    with ImageIndex(place, model="fake", views="tiles") as index:
        index.add(picture)
    with ImageIndex(place) as index:
        assert index.analyzer.config["views"] == "tiles"
        assert index.search(image=noise(2)).query.terms == _query_terms(index, noise(2))
    for other in ("tiles14", None):
        with (
            pytest.raises(AnalyzerMismatchError, match="views=tiles ->"),
            ImageIndex(place, analyzer=analyzer(other)) as index,
        ):
            index.count()
    with pytest.raises(ConfigurationError, match="views = 'tiles' in its configuration"):
        ImageIndex(place, analyzer={"model": "fake"}, views="tiles")


def _query_terms(index: ImageIndex, picture: Image.Image):
    return tuple(replace(term, view=None) for term in index.analyze(picture).terms[:10])


def test_views_of_a_query_are_another_thing(tmp_path):
    with ImageIndex(tmp_path / "x.duckdb", model="fake", views="tiles") as index:
        index.add([noise(i) for i in range(3)])
        hits = index.search(image=noise(1), views=["mirror", "crops"])
        assert hits.total == 3
        assert index.search(image=noise(1), region=(0, 0, 0.5, 0.5)).total == 3


def test_the_pixels_of_few_query_pictures_are_kept_at_once(tmp_path, monkeypatch):
    ready, most = [0], []
    prepare, analyze = Analyzer.prepare, Analyzer.analyze_prepared

    def prepared(self: Analyzer, image: Image.Image) -> np.ndarray:
        ready[0] += 1
        most.append(ready[0])
        return prepare(self, image)

    def analyzed(self: Analyzer, pictures: list[np.ndarray]) -> object:
        ready[0] -= len(pictures)
        return analyze(self, pictures)

    with ImageIndex(tmp_path / "x.duckdb", model="fake") as index:
        index.add([noise(1)])
        monkeypatch.setattr(Analyzer, "prepare", prepared)
        monkeypatch.setattr(Analyzer, "analyze_prepared", analyzed)
        every = ["mirror", "rotations", "crops"]
        assert index.search(image=[noise(i) for i in range(9)], views=every).total == 1
    assert len(most) == 90
    assert max(most) <= 40


# -- storing ---------------------------------------------------------------------------------


def seen(document: Document) -> list[int | None]:
    return [term.view for term in document.terms]


def test_processes_and_threads_give_the_same_documents(many, tmp_path):
    found = []
    for name, workers in (("threads", None), ("processes", 2)):
        with ImageIndex(tmp_path / f"{name}.duckdb", model="fake", views="tiles14") as index:
            paths = sorted(many.iterdir())
            for chunk in (paths[:10], paths[10:]) if workers is None else (paths,):
                index.add(chunk, workers=workers)  # a few are decoded in threads
            documents = sorted(index.store.documents(), key=lambda one: one.uri)
            found.append([(one.terms, one.embedding.tolist()) for one in documents])
    assert len(found[0]) == 20
    assert found[0] == found[1]


def test_documents_go_through_every_form(tmp_path):
    with ImageIndex(tmp_path / "x.duckdb", model="fake", views="tiles14") as index:
        index.add([noise(i, 90, 60) for i in range(5)])
        for document in list(index.store.documents()):
            assert None not in seen(document)
            source = json.loads(json.dumps(document.to_source(index.vocabulary)))
            assert Document.from_source(source).terms == document.terms
            assert Document.from_source(source).checksum == document.checksum
            assert Document.from_hit(source["hit"]).terms == document.terms
            moved = replace(document.terms[0], view=(document.terms[0].view or 0) + 1)
            changed = replace(document, terms=(moved, *document.terms[1:]))
            assert changed.checksum != document.checksum
            index.update(document.id, labels="pet")
            assert index.get(document.id).terms == document.terms


def test_wrong_views_in_a_file_are_reported(tmp_path):
    file = tmp_path / "x.jsonl"
    with ImageIndex(tmp_path / "x.duckdb", model="fake", views="tiles") as index:
        index.add(noise(1))
        index.export(file)
    header, row = file.read_text().splitlines()
    size = len(json.loads(row)["synsets"])
    wrong = ([0], "many", *([view] * size for view in (15, -1, 0.5, True)))
    rows = [json.dumps({**json.loads(row), "views": views}) for views in wrong]
    file.write_text("\n".join([header, *rows]))
    with ImageIndex(tmp_path / "y.duckdb") as other:
        report = other.import_(file)
    reasons = "|".join(rejected.reason for rejected in report.rejected_rows)
    assert report.rejected == len(wrong)
    for reason in ("as long as synsets", "a number from 0 to 14", "no whole number"):
        assert reasons.count(reason) == 2


def test_a_changed_view_is_found(tmp_path):
    place = tmp_path / "x.duckdb"
    with ImageIndex(place, model="fake", views="tiles") as index:
        index.add([noise(i) for i in range(3)])
    with duckdb.connect(str(place)) as connection:
        connection.execute(
            "UPDATE documents SET views = list_transform(views, lambda v: (v + 1) % 6) "
            "WHERE document = 1"
        )
    with ImageIndex(place) as index:
        report = index.verify()
        assert not report.is_whole
        assert len(report.harms) == 1
    with duckdb.connect(str(place)) as connection:
        connection.execute("UPDATE documents SET views = [1, 2] WHERE document = 1")
    with ImageIndex(place) as index:
        assert not index.verify().is_whole


def test_an_index_is_analyzed_again_with_views(index, photos, cat):
    assert index.reindex(views="tiles").analyzed == 12
    assert index.analyzer.config["views"] == "tiles"
    assert None not in seen(index.get(cat))
    assert index.add(photos).unchanged == 12
    assert index.reindex().copied == 12
    assert None not in seen(index.get(cat))
    assert index.verify(sample=12).is_whole
    document = index.get(cat)
    for view in (5, 14, None):  # in another tile, in one that "tiles" lacks, in none
        best = next(t for t in document.terms if t.view not in (0, 5))
        terms = [replace(t, view=view) if t == best else t for t in document.terms]
        index.store.write([replace(document, terms=tuple(terms))])
        assert index.verify().is_whole
        (harm,) = index.verify(sample=12).harms
        assert (harm.uri, harm.part) == (document.uri, "analysis")
        assert "in other views" in harm.what


# -- asking ----------------------------------------------------------------------------------


def test_a_hit_says_where_a_word_is(tmp_path):
    with ImageIndex(tmp_path / "x.duckdb", model="fake", views="tiles") as index:
        index.add(noise(1, 200, 100))
        hit = index.search(text="animal")[0]
        named = set(index.vocabulary.hyponyms("animal"))
        best = next(term for term in hit.synsets if term.key in named)
        assert hit.where("animal") == box_of(best.view or 0, 200, 100)
        assert hit.where(f"synset:{best.key}") == hit.where("animal")
        assert hit.to_dict()["synsets"][0]["box"] == box_list(hit, 0)
        lacking = next(key for key in index.vocabulary.keys if key not in _keys(hit))
        assert hit.where(f"synset:{lacking}") is None
        with pytest.raises(QueryError, match="qwertz"):
            hit.where("qwertz")
        copied = pickle.loads(pickle.dumps(hit))  # noqa: S301 - its own
        assert copied.document.checksum == hit.document.checksum
        assert copied.where("animal") == hit.where("animal")
    with pytest.raises(QueryError, match="does not know its index"):
        replace(hit, vocabulary=None).where("animal")


def box_list(hit, i: int) -> list[int]:
    return list(hit.document.box(hit.synsets[i]))


def _keys(hit) -> set[str]:
    return {term.key for term in hit.synsets}


def test_explanations_name_the_box(tmp_path):
    with ImageIndex(tmp_path / "x.duckdb", model="fake", views="tiles") as index:
        index.add([noise(1, 200, 100), noise(2, 200, 100)])
        plain = index.search(image=noise(1, 200, 100)).explain(0)
        both = {"image": 1, "words": 1}
        fused = index.search(image=noise(1), text="animal", fuse=both).explain(0)
    row = plain.rows[0]
    place = ",".join(map(str, plain.boxes[row.key]))
    assert f"{row.key} [{place}]" in str(plain)
    assert plain.to_dict()["summands"][0]["box"] == list(plain.boxes[row.key])
    assert "box" in fused.to_dict()["parts"][0]["summands"][0]
    assert any(name.startswith("  ") and name.endswith("]") for name, *_ in fused.lines())


def test_explanations_are_as_before_without_views(tmp_path):
    with ImageIndex(tmp_path / "x.duckdb", model="fake") as index:
        index.add(noise(1))
        hits = index.search(image=noise(1))
    assert hits.explain(0).boxes == {}
    assert "[" not in str(hits.explain(0))
    assert "box" not in hits.to_dict()["hits"][0]["synsets"][0]


def test_the_command_line(run, asked, photos, tmp_path):
    place = tmp_path / "x.duckdb"
    run("index", photos, "--model", "fake", "--views", "tiles", "--index", place)
    assert "views=tiles" in run("stats", "--index", place).output
    found = asked("search", "animal", "--index", place, "-k", 1)
    assert len(found["hits"][0]["synsets"][0]["box"]) == 4
    assert ",30,20]" in run("explain", "animal", "--index", place, "-k", 20).output
    run("reindex", "--views", "tiles14", "--index", place)
    assert "views=tiles14" in run("stats", "--index", place).output
    other = tmp_path / "y.duckdb"
    result = run("index", photos, "--model", "fake", "--views", "x", "--index", other, code=1)
    assert "views is 'tiles' or 'tiles14'" in result.output


def test_an_uploaded_picture_is_cut_by_a_process(tmp_path):
    file, picture = BytesIO(), noise(8, 90, 70)
    picture.save(file, "PNG")
    with ImageIndex(tmp_path / "x.duckdb", model="fake", views="tiles") as index:
        index.add([noise(i) for i in range(3)])
        checker = Checker(Limits(), lambda: index.analyzer.config)
        try:
            upload = Uploads(checker).add(file.getvalue())
        finally:
            checker.close()
        assert upload.pixels is not None
        found = index.search(image=Prepared(upload.id, upload.pixels))
        assert found.query.terms == index.search(image=picture).query.terms
        assert found.query.pictures[0].size == (8, 8)


def test_large_parts_are_averaged(monkeypatch):
    monkeypatch.setattr("imgsearch_es.analysis.filters._LARGEST_COPY", 1000)
    sizes = []

    def note(image: Image.Image) -> Image.Image:
        sizes.append(image.size)
        return image.resize((8, 8))

    Preparation((note,), "tiles14")(noise(1, 200, 100))
    assert sizes == [(200, 100), *[(40, 20)] * 14]
    sizes.clear()
    Preparation((note,), "tiles")(Image.new("RGB", (5000, 1)))
    assert sizes == [(5000, 1), *[(1500, 1)] * 5]
