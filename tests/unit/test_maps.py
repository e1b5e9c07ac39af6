"""Maps of a collection: layouts, colors, the figure and the command."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imgsearch_es.errors import ConfigurationError, MissingDependencyError, QueryError
from imgsearch_es.interfaces import maps
from imgsearch_es.interfaces.maps import CollectionMap, map_collection, project

pytestmark = pytest.mark.slow


def clusters() -> np.ndarray:
    rng = np.random.default_rng(2)
    middles = np.repeat(np.eye(3, 8), 12, axis=0)
    return (middles + 0.05 * rng.random((36, 8))).astype(np.float32)


@pytest.mark.parametrize(
    "method",
    ["tsne", pytest.param("umap", marks=pytest.mark.long)],  # umap compiles itself first
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")
def test_neighbors_stay_neighbors(method):
    points = project(clusters(), method=method, seed=1)
    assert points.shape == (36, 2)
    assert points.min() == 0
    assert points.max() == 1
    kinds = np.repeat(np.arange(3), 12)
    distances = np.linalg.norm(points[:, None] - points, axis=2) + 9 * np.eye(36)
    assert (kinds[distances.argmin(axis=1)] == kinds).all()
    assert (project(clusters(), method=method, seed=1) == points).all()


@pytest.fixture
def laid_out(monkeypatch):
    """Pictures lie anywhere; the tests above prove what a layout is."""
    anywhere = np.random.default_rng(1).random
    monkeypatch.setattr(maps, "project", lambda features, **_: anywhere((len(features), 2)))


def test_what_cannot_be_laid_out():
    with pytest.raises(ConfigurationError, match="there is no map 'pca'"):
        project(clusters(), method="pca")
    with pytest.raises(ConfigurationError, match="three features or more"):
        project(clusters()[:2])


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[umap\]"):
        project(clusters(), method="umap")


def test_an_index_is_mapped_by_label_or_synset(index, photos, laid_out):
    index.update(photos / "cats" / "cat.0.png", labels="first")
    index.update(photos / "dogs" / "dog.0.png", labels=[])
    found = map_collection(index)
    assert len(found.uris) == len(set(found.uris)) == 12
    assert sorted(found.kinds) == [*["cats"] * 5, *["dogs"] * 5, "first", "none"]
    by_synset = map_collection(index, color="synset", limit=5)
    assert len(by_synset.uris) == 5
    assert by_synset.kinds[0] == index.get(by_synset.uris[0]).terms[0].key
    with pytest.raises(QueryError, match="1 pictures have a deep feature and meet"):
        map_collection(index, where={"label": "first"})
    with pytest.raises(ConfigurationError, match="label or synset, not 'size'"):
        map_collection(index, color="size")
    with pytest.raises(ConfigurationError, match=r"the seed of a map is 0 to 4,294,967,295"):
        map_collection(index, seed=2**32)


def test_rare_kinds_share_a_color_and_missing_pictures_their_thumbnail(photos, cat):
    uris = (str(cat), str(photos / "gone.png"), *[str(photos / f"{i}.png") for i in range(18)])
    kinds = (*["common"] * 6, *[f"$rare_{i}$" for i in range(14)])
    points = np.random.default_rng(1).random((20, 2))
    figure = CollectionMap(points, uris, kinds, "tsne").plot(title="a $ sign")
    (axes,) = figure.axes
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[0] == "common (6)"
    assert names[-1] == "others (5)"
    assert len(names) == 11
    assert len(axes.artists) == 1  # the one picture that can be read


def test_the_command_draws_a_map(run, asked, place, laid_out, tmp_path, monkeypatch):
    target = tmp_path / "map.png"
    found = asked("map", "--index", place, "--out", target)
    assert {picture["kind"] for picture in found["pictures"]} == {"cats", "dogs"}
    with Image.open(target) as drawn:
        assert drawn.width > 1000
    run("map", "--index", place, "--out", target)  # in place of the earlier one
    run("map", "--index", place, "--out", tmp_path / "map")
    with Image.open(tmp_path / "map") as drawn:
        assert drawn.format == "PNG"
    monkeypatch.setattr(maps, "map_collection", None)  # what cannot be written is said before
    with Image.new("RGB", (9, 9)) as photo:
        photo.save(tmp_path / "photo.png")
    for name in ("map.docx", "none/map.png", "photo.png"):
        wrong = run("map", "--index", place, "--out", tmp_path / name, code=1)
        assert "cannot write" in wrong.stderr
