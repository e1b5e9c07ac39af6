"""What training needs besides TensorFlow: made groups, examples, batches, mining, checkpoints."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from imgsearch_es.errors import ConfigurationError, SourceError
from imgsearch_es.evaluation import Judgements, nister_stewenius
from imgsearch_es.learning import TrainingOptions, features_and_groups, make_groups
from imgsearch_es.learning.examples import Examples, objects
from imgsearch_es.learning.head import half_whitening
from imgsearch_es.learning.learner import random_triplets, semi_hard
from imgsearch_es.learning.training import read_checkpoint, score, write_checkpoint
from tests.fakes import noise

LINE = np.array([[0.0], [1.0], [3.0], [0.5], [9.0], [20.0]], dtype=np.float32)
"""Points on a line; the first three are of one object."""
GROUPS = np.array([0, 0, 0, 1, 1, 2])


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


# --- mining -----------------------------------------------------------------------------------


def test_semi_hard_takes_the_nearest_negative_beyond_the_positive():
    triplets = {(a, p): n for a, p, n in semi_hard(LINE, GROUPS, rng()).tolist()}
    assert triplets[0, 1] == 4  # 3 is nearer than the positive
    assert triplets[1, 0] == 4
    assert triplets[0, 2] == 4
    assert triplets[3, 4] == 5  # 9 away is the positive, 0.5 to 3 the negatives of the first object
    assert set(triplets) == {(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1), (3, 4), (4, 3)}


def test_semi_hard_takes_the_farthest_where_all_negatives_are_nearer():
    points = np.array([[0.0], [10.0], [1.0], [2.0]], dtype=np.float32)
    triplets = semi_hard(points, np.array([0, 0, 1, 1]), rng()).tolist()
    assert triplets[:2] == [[0, 1, 3], [1, 0, 2]]


@pytest.mark.parametrize("mine", [semi_hard, random_triplets])
def test_triplets_are_of_two_objects(mine):
    embeddings = rng().random((24, 5), dtype=np.float32)
    groups = np.repeat(np.arange(6), 4)
    anchors, positives, negatives = mine(embeddings, groups, rng()).T
    assert len(anchors) == 24 * 3
    assert (groups[anchors] == groups[positives]).all()
    assert (anchors != positives).all()
    assert (groups[anchors] != groups[negatives]).all()
    assert mine(LINE, np.zeros(6, dtype=np.intp), rng()).shape == (0, 3)  # of one object


# --- examples and batches -----------------------------------------------------------------------


def test_examples_leave_out_pictures_alone_in_their_object():
    found = Examples.of(LINE, ["b", "b", "c", "a", "a", "b"])
    assert found.names == ("b", "a")
    assert found.groups.tolist() == [0, 0, 1, 1, 0]
    assert len(found) == 5


def test_a_seed_divides_objects_alike_whatever_their_names():
    """The objects of an index are named by ids, which are others in another folder."""
    features = rng().random((40, 3), dtype=np.float32)
    here = Examples.of(features, [f"a{i // 4}" for i in range(40)])
    there = Examples.of(features, [f"{99 - i // 4}" for i in range(40)])
    for one, other in zip(here.divide(0.4, seed=3), there.divide(0.4, seed=3), strict=True):
        assert one.features.tolist() == other.features.tolist()


@pytest.mark.parametrize(
    ("features", "groups", "message"),
    [
        (LINE, ["a"], "do not go with 1 groups"),
        (np.array([[1.0], [np.nan]], np.float32), ["a", "a"], "picture 1 is not finite"),
        (LINE, ["a", "a", "b", "c", "d", "e"], "1 objects with two or more pictures"),
        (LINE, ["a", "a", "b", "b", None, None], r"picture 4 has no group \(None\)"),
        (LINE, ["a", "a", np.nan, np.nan, "b", "b"], r"picture 2 has no group \(nan\)"),
    ],
)
def test_examples_that_cannot_be_learned_from(features, groups, message):
    with pytest.raises(ConfigurationError, match=message):
        Examples.of(features, groups)


def test_no_object_is_on_both_sides():
    features = rng().random((80, 3), dtype=np.float32)
    examples = Examples.of(features, [f"object {i // 4}" for i in range(80)])
    parts = _, held_out, _ = examples.divide(0.2, seed=1)
    assert sorted(name for part in parts for name in part.names) == sorted(examples.names)
    assert [len(part.names) for part in parts] == [12, 4, 4]
    for side in parts:
        for row, group in zip(side.features, side.groups, strict=True):
            (place,) = np.flatnonzero((features == row).all(axis=1))
            assert side.names[group] == f"object {place // 4}"
    assert examples.divide(0.2, seed=1)[1].names == held_out.names
    assert examples.divide(0.2, seed=2)[1].names != held_out.names


@pytest.mark.parametrize(
    ("share", "message"),
    [(0, "between 0 and 0.5"), (0.5, "between 0 and 0.5"), (0.2, "takes six")],
)
def test_what_cannot_be_divided(share, message):
    with pytest.raises(ConfigurationError, match=message):
        Examples.of(LINE, ["a", "a", "b", "b", "c", "c"]).divide(share, 0)


def test_an_epoch_has_every_object_once():
    sizes = [2, 9, 4, 3, 2, 5]
    groups = np.repeat(np.arange(6), sizes)
    examples = Examples.of(np.zeros((len(groups), 1), np.float32), groups.tolist())
    parts = list(examples.batches(3, 4, rng()))
    assert len(parts) == 2
    seen = [set(groups[part]) for part in parts]
    assert seen[0] | seen[1] == set(range(6))
    assert not seen[0] & seen[1]
    counts = np.bincount(groups[np.concatenate(parts)])
    assert counts.tolist() == [min(size, 4) for size in sizes]


def test_the_score_is_that_of_ukbench():
    embeddings = rng().random((40, 6), dtype=np.float32)
    groups = np.repeat(np.arange(10), 4)
    wanted = nister_stewenius(embeddings, groups, comparison="dense-cosine").mean()
    assert score(embeddings, groups) == pytest.approx(wanted)


def test_half_whitening_brings_variances_nearer_together():
    features = rng().standard_normal((4000, 4)) * [8.0, 4.0, 2.0, 1.0] + 5
    kernel, bias = half_whitening(features, 3)
    found = features @ kernel + bias
    assert found.mean(axis=0) == pytest.approx([0, 0, 0], abs=1e-5)
    assert np.square(found).sum(axis=1).mean() == pytest.approx(1, rel=1e-5)
    deviations = found.std(axis=0)
    assert deviations[0] / deviations[2] == pytest.approx(2, rel=0.1)  # of 4 before
    kernel, _ = half_whitening(features, 6)
    assert kernel.shape == (4, 6)
    assert not kernel[:, 4:].any()
    kernel, _ = half_whitening(features[:3], 4)  # they differ in two directions
    assert kernel[:, :2].any(axis=0).all()
    assert not kernel[:, 2:].any()


# --- from an index ----------------------------------------------------------------------------


def test_features_and_objects_of_an_index(index, photos):
    vectors, groups = features_and_groups(index, "folder")
    assert vectors.shape == (12, 16)
    assert groups == [groups[0]] * 6 + [groups[6]] * 6
    assert groups[0] != groups[6]
    cat = index.get(photos / "cats" / "cat.0.png")
    assert (vectors[0] == cat.embedding).all()


def test_pictures_that_belong_together_by_way_of_others_are_one_object():
    judged = Judgements({"a": {"b": 1}, "c": {"b": 2, "d": 0}, "e": {"f": 1}})
    assert objects(judged) == {"a": "a", "b": "a", "c": "a", "e": "e", "f": "e"}


# --- options and checkpoints ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "quadruplet"}, "there is no loss 'quadruplet'"),
        ({"mining": "hardest"}, "there is no mining 'hardest'"),
        ({"margin": 0}, "margin is above 0"),
        ({"margin": float("inf")}, "margin is above 0 and finite"),
        ({"epochs": 0}, "epochs is above 0"),
        ({"objects": 1}, "objects of a batch are 2 or more"),
        ({"seed": -1}, "seed is 0 or more"),
        ({"seed": 2**63}, "seed is 0 or more and below"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigurationError, match=message):
        TrainingOptions(**options)


def test_a_checkpoint_comes_back(tmp_path):
    arrays = [rng().random((3, 2)), np.arange(12)]
    path = tmp_path / "a.checkpoint"
    lists = {"weights": arrays, "optimizer": [np.array(7)], "best": arrays[:1]}
    write_checkpoint(path, {"best": 3}, **lists)
    state, found = read_checkpoint(path)
    assert state == {"best": 3}
    assert [a.tolist() for a in found["weights"]] == [a.tolist() for a in arrays]
    assert found["optimizer"][0].shape == ()
    assert len(found["best"]) == 1


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04broken"])
def test_a_damaged_checkpoint_says_what_to_do(tmp_path, content):
    path = tmp_path / "a.checkpoint"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="delete it to begin again"):
        read_checkpoint(path)


# --- made groups ------------------------------------------------------------------------------


@pytest.fixture
def scenes(tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    for i in range(3):
        noise(i, 16, 12).resize((320, 240)).save(folder / f"scene{i}.png")
    return folder


def hashes(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.jpg"))
    }


def test_groups_follow_from_the_photo_and_the_seed(scenes, tmp_path):
    made = make_groups(scenes, tmp_path / "a")
    assert [folder.name[:-9] for folder in made] == ["scene0", "scene1", "scene2"]
    first = hashes(tmp_path / "a")
    assert len(set(first.values())) == 12
    make_groups(scenes / "scene1.png", tmp_path / "b")  # whichever other photos there are
    assert hashes(tmp_path / "b").items() <= first.items()
    make_groups(scenes, tmp_path / "c", seed=1)
    assert not set(hashes(tmp_path / "c").values()) & set(first.values())


def test_a_second_run_makes_what_is_missing(scenes, tmp_path):
    make_groups(scenes, tmp_path / "a")
    before = hashes(tmp_path / "a")
    kept, *_, last = sorted((tmp_path / "a").glob("*/*.jpg"))
    time = kept.stat().st_mtime_ns
    last.unlink()
    make_groups(scenes, tmp_path / "a")
    assert hashes(tmp_path / "a") == before
    assert kept.stat().st_mtime_ns == time


def test_photos_with_the_same_bytes_are_one_object(scenes, tmp_path):
    (scenes / "copy.png").write_bytes((scenes / "scene0.png").read_bytes())
    (scenes / "below").mkdir()
    Image.new("RGB", (64, 64), "red").save(scenes / "below" / "scene1.png")
    names = [folder.name for folder in make_groups(scenes, tmp_path / "a")]
    assert len(names) == len(set(names)) == 4
    assert sum(name.startswith("scene1") for name in names) == 2


def test_groups_that_cannot_be_made(scenes, tmp_path):
    make_groups(scenes / "scene0.png", tmp_path / "a")
    with pytest.raises(SourceError, match="made with other options"):
        make_groups(scenes / "scene0.png", tmp_path / "a", light=0)
    with pytest.raises(ConfigurationError, match="light is from 0 to 1, not 2"):
        make_groups(scenes, tmp_path / "b", light=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="there are no photos"):
        make_groups(tmp_path / "empty", tmp_path / "b")


def test_the_command_makes_groups(run, asked, scenes, tmp_path):
    command = ("groups", scenes, "--out", tmp_path / "made")
    (scenes / "bad.png").touch()
    found = asked(*command)
    assert [name[:-9] for name in found["groups"]] == ["scene0", "scene1", "scene2"]
    bad = {"uri": str(scenes / "bad.png"), "reason": "the file is empty"}
    assert found["passed_over"] == [bad]
    again = run(*command)
    assert again.stdout.endswith("3 groups of 4 pictures\n")
    assert "passed over " in again.stderr


def test_groups_of_other_photos_and_among_photos(scenes, tmp_path):
    """Another photo of the same name has a group of its own, and what was made is no photo."""
    before = make_groups(scenes, scenes / "made")
    noise(9, 16, 12).resize((320, 240)).save(scenes / "scene0.png")
    after = make_groups(scenes, scenes / "made")
    assert len(after) == 3
    assert len({*before, *after}) == 4


def test_the_command_says_what_is_wrong(run, place, tmp_path):
    wrong = run("train", "--index", place, "--layers", "a,b", code=1)
    assert "--layers is a number or several" in wrong.stderr
    few = run("train", "--index", place, "--out", tmp_path / "head.keras", code=1)
    assert "there are 2 objects" in few.stderr
    other = run("train", "--index", place, "--out", tmp_path / "head.h5", code=1)
    assert "its name must end in .keras" in other.stderr
    for place_of in (("--out", tmp_path / "no" / "head.keras"), ("--plot", tmp_path / "a.docx")):
        early = run("train", "--index", place, *place_of, code=1)
        assert "cannot write" in early.stderr  # before the work
