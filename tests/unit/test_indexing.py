"""The indexing pipeline, on an index file and a model without TensorFlow."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import time
from datetime import datetime

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import (
    ConfigurationError,
    ImageError,
    ReconciliationError,
    ShortageError,
    SourceError,
)
from imgsearch_es.indexing import STAGES, IndexReport, folder_label, gone, read, run
from imgsearch_es.pictures import images
from imgsearch_es.pictures.files import Limits, picture_id
from imgsearch_es.retrieval.ledger import Rejected
from imgsearch_es.stores.base import WriteReport
from tests.fakes import noise


def counts(report: IndexReport) -> tuple[int, int, int, int, int]:
    rejected = len(report.rejected)
    return report.added, report.updated, report.unchanged, report.removed, rejected


def content(index: ImageIndex) -> dict[str, tuple]:
    """All that is stored but the time, by URI."""
    ids = [key for key, _ in index.store.below("")]
    return {
        d.uri: (d.id, d.sha256, d.terms, d.labels, dict(d.metadata), d.embedding.tolist())
        for d in index.store.get(ids).values()
    }


def test_the_second_run_adds_nothing_and_does_not_even_build_the_analyzer(new, photos, monkeypatch):
    report = new.add(photos)
    assert counts(report) == (12, 0, 0, 0, 0)
    assert report.found == new.count() == 12
    before = content(new)
    assert set(before) == {str(path) for path in photos.rglob("*.png")}
    monkeypatch.setattr("imgsearch_es.index.Analyzer", None)
    with ImageIndex(new.location) as again:
        assert counts(again.add(photos)) == (0, 0, 12, 0, 0)
        assert content(again) == before


def test_batches_do_not_change_what_is_stored(index, photos, tmp_path, fake_model):
    fake_model.calls = 0
    with ImageIndex(tmp_path / "other.duckdb", model="fake") as other:
        other.add(photos, batch_size=5, workers=3)
        assert fake_model.calls == 1 + 3  # one to learn the embedding's length
        one, two = (
            {uri: (*d[:2], [term.key for term in d[2]]) for uri, d in content(each).items()}
            for each in (index, other)
        )
    assert one == two


def test_changed_content_is_updated_and_keeps_its_labels(new, photos):
    new.add(photos, labels="pet", metadata={"a": 1})
    changed = photos / "cats" / "cat.0.png"
    before = new.get(changed)
    noise(99).save(changed)
    assert counts(new.add(photos)) == (0, 1, 11, 0, 0)
    after = new.get(changed)
    assert after.id == before.id
    assert after.sha256 != before.sha256
    assert after.terms != before.terms
    assert (after.labels, after.metadata) == (("pet",), {"a": 1})
    assert new.count() == 12


def test_labels_and_metadata_change_without_analysis(index, photos, fake_model):
    before = index.get(photos / "dogs" / "dog.1.png")
    fake_model.calls = 0
    assert counts(index.add(photos, labels=["x", "y"])) == (0, 12, 0, 0, 0)
    assert counts(index.add(photos, labels=("x", "y"))) == (0, 0, 12, 0, 0)
    assert counts(index.add(photos, metadata={"b": [1]})) == (0, 12, 0, 0, 0)
    after = index.get(photos / "dogs" / "dog.1.png")
    assert (after.labels, after.metadata) == (("x", "y"), {"b": [1]})
    assert after.terms == before.terms
    np.testing.assert_array_equal(after.embedding, before.embedding)
    assert fake_model.calls == 0


def test_what_no_index_holds_is_refused_before_the_run_or_for_its_picture(new, photos):
    for options in ({"labels": "x" * 40_000}, {"metadata": {"a": float("nan")}}):
        with pytest.raises(ConfigurationError):
            new.add(photos, **options)
    assert not new.exists
    report = new.add(photos, labels=lambda uri: "\ud800" if uri.endswith("cat.0.png") else "a")
    assert report.added == 11
    assert [entry.uri for entry in report.rejected] == [str(photos / "cats" / "cat.0.png")]


def test_labels_by_a_function_of_the_uri(new, photos):
    new.add(photos, labels=folder_label)
    assert new.get(photos / "dogs" / "dog.0.png").labels == ("dogs",)
    new.add(photos, labels=lambda uri: [])
    assert new.get(photos / "dogs" / "dog.0.png").labels == ()
    assert folder_label("s3://bucket/cats/a.jpg") == ("cats",)
    assert folder_label("file:///photos/%FF/a.jpg") == ("�",)
    assert folder_label("/a.jpg") == ()
    assert folder_label("https://host/big%20cats/a.jpg?of=/b/c") == ("big cats",)
    assert folder_label("https://host/a.jpg") == ()
    assert folder_label("tar://pets/cats/a.jpg::/photos/x.tar") == ("cats",)
    assert folder_label("tar://a.jpg::/photos/x.tar") == ("photos",)


def test_prune_removes_what_is_gone_below_the_folders_named(new, photos):
    (photos / "dogs").rename(photos / "cats2")  # a name that begins as another folder's
    new.add(photos)
    (photos / "cats" / "cat.0.png").unlink()
    shutil.rmtree(photos / "cats2")
    assert counts(new.add(photos)) == (0, 0, 5, 0, 0)
    assert counts(new.add(photos / "cats", prune=True)) == (0, 0, 5, 1, 0)
    assert counts(new.add(photos, prune=True)) == (0, 0, 5, 6, 0)
    assert new.count() == 5


@pytest.mark.parametrize(
    ("step", "error"), [("read_bytes", ImageError), ("Readers._decode", ShortageError)]
)
def test_what_cannot_be_read_for_a_moment_keeps_its_document(
    index, photos, monkeypatch, step, error
):
    cat = photos / "cats" / "cat.0.png"
    cat.write_bytes(cat.read_bytes() + b"changed")

    def fail(*_):
        raise error(str(cat), "cannot be read just now")

    with monkeypatch.context() as patched:
        patched.setattr(f"imgsearch_es.indexing.read.{step}", fail)
        report = index.add(cat, prune=True)
    assert (counts(report), report.shortages) == ((0, 0, 0, 0, 1), error is ShortageError)
    assert (index.count(), len(index.rejected())) == (12, 1)
    assert counts(index.add(cat)) == (0, 1, 0, 0, 0)
    assert index.rejected() == []


def test_prune_knows_a_folder_by_whatever_names_it(index, photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos.parent))
    ways = (f"~/{photos.name}", photos.as_uri(), os.fsencode(photos))
    for way, picture in zip(ways, sorted(photos.glob("*/*.png")), strict=False):
        picture.unlink()
        assert index.add(way, prune=True).removed == 1


@pytest.mark.parametrize("name", [b"cat\xff.png", b".hidden.png"])
def test_prune_takes_odd_names_and_keeps_what_the_walk_passes_over(index, photos, name):
    place = photos / os.fsdecode(name)
    noise(5).save(place)
    index.add(place)
    assert index.add(photos, prune=True).removed == 0
    place.unlink()
    assert counts(index.add(photos, prune=True)) == (0, 0, 12, 1, 0)


def test_prune_keeps_what_is_moved_while_it_runs(index, photos):
    cat, other = photos / "cats" / "cat.0.png", photos / "dogs" / "moved.png"
    index.label([cat], add=["mine"])

    def move(report, total):
        if report.found == 12 and cat.exists():
            cat.rename(other)

    assert counts(index.add(photos, prune=True, progress=move)) == (0, 0, 12, 0, 0)
    assert index.add(photos, prune=True).moved == 1
    assert index.get(other).labels == ("cats", "mine")


def test_prune_keeps_what_is_labeled_where_a_picture_moved_on_before_it_was_read(
    index, photos, monkeypatch
):
    index.label([photos / "cats" / "cat.0.png"], add=["mine"])
    index.update(photos / "dogs" / "dog.0.png", labels=[], metadata={})
    (photos / "dogs" / "dog.0.png").unlink()
    moved = (photos / "cats" / "cat.0.png").rename(photos / "dogs" / "moved.png")
    real = read.read_bytes

    def late(uri, *rest):
        if uri == str(moved):
            moved.rename(photos / "dogs" / "on.png")
        return real(uri, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(read, "read_bytes", late)
        report = index.add(photos, prune=True)
    assert (report.removed, index.count()) == (1, 11)
    assert f"nothing with labels or metadata was removed: {moved} vanished" in report.kept[0]
    assert index.add(photos, prune=True).moved == 1
    assert index.get(photos / "dogs" / "on.png").labels == ("cats", "mine")


def test_prune_refuses_where_a_drive_may_not_be_mounted(index, photos):
    for path in (photos / "cats").iterdir():
        path.unlink()
    (photos / "dogs" / "dog.0.png").unlink()
    report = index.add(photos, prune=True)
    assert (report.removed, index.count()) == (1, 11)
    assert f"nothing was removed for {photos / 'cats'}: it is empty now. Is" in report.kept[0]
    (photos / "cats").rmdir()
    assert index.add(photos, prune=True).removed == 6
    shutil.rmtree(photos / "dogs")
    with pytest.raises(SourceError, match="none of its 5 pictures is there any more"):
        index.add(photos, prune=True)
    assert index.count() == 5


def test_prune_keeps_what_cannot_be_reached(index, photos, monkeypatch):
    (photos / "cats" / "cat.0.png").unlink()

    def unreachable(path, lstat=os.lstat):
        if "dogs" in str(path):
            raise PermissionError(13, "Permission denied")
        return lstat(path)

    with monkeypatch.context() as patch:
        patch.setattr("os.lstat", unreachable)
        (photos / "dogs" / "dog.0.png").unlink()
        assert index.add(photos, prune=True).removed == 1


def test_prune_strikes_rejected_files_that_are_gone_out_of_the_ledger(index, photos):
    (photos / "bad.png").touch()
    (photos / "worse.png").touch()
    index.add(photos)
    (photos / "bad.png").unlink()
    index.add(photos)
    assert len(index.rejected()) == 2
    index.add(photos, prune=True)
    assert [entry.uri for entry in index.rejected()] == [str(photos / "worse.png")]
    out_of_reach = Rejected(f"{photos}/{'d' * 300}/cat.png", "the name is too long")
    index.store.ledger.write([out_of_reach])
    index.add(photos, prune=True)
    assert out_of_reach in index.rejected()
    index.store.ledger.remove([out_of_reach.id])
    (photos / "worse.png").unlink()
    assert counts(index.retry()) == (0, 0, 0, 0, 0)
    assert index.rejected() == []


def test_a_rejected_picture_keeps_its_labels_while_its_drive_is_away(index, photos, tmp_path):
    """To try again struck it out of the ledger, and with it what people had said of it."""
    cat, away = photos / "cats" / "cat.0.png", tmp_path / "away"
    picture = cat.read_bytes()
    index.update(cat, labels=["tom"])
    cat.write_bytes(b"no picture")
    index.add(photos)
    (photos / "cats").rename(away)
    (photos / "cats").mkdir()  # as an empty one is where a drive is mounted
    assert counts(index.retry()) == (0, 0, 0, 0, 0)
    (photos / "cats").rmdir()
    (away.rename(photos / "cats") / cat.name).write_bytes(picture)
    index.retry()
    assert index.get(cat).labels == ("tom",)


# -- moved files and copies ---------------------------------------------------------------------


def test_a_moved_file_keeps_its_analysis_and_its_labels(index, photos, fake_model):
    index.update(photos / "cats" / "cat.0.png", labels=["tom"], metadata={"a": 1})
    before = index.get(photos / "cats" / "cat.0.png")
    (photos / "cats" / "cat.0.png").rename(photos / "dogs" / "moved.png")
    fake_model.calls = 0
    report = index.add(photos, prune=True)
    assert (counts(report), report.reused) == ((1, 0, 11, 0, 0), 1)
    assert (report.moved, fake_model.calls) == (1, 0)
    after = index.get(photos / "dogs" / "moved.png")
    assert (after.labels, after.metadata) == (("tom",), {"a": 1})
    assert (after.terms, after.sha256, after.width) == (before.terms, before.sha256, before.width)
    assert after.embedding.tolist() == before.embedding.tolist()
    assert "without analysis" in str(report)


@pytest.mark.parametrize("name", ["cat.0.png", "cat.1.png"])
def test_a_moved_file_keeps_its_labels_where_a_copy_stays(index, photos, name):
    cats = photos / "cats"
    shutil.copy(cats / "cat.0.png", cats / "cat.1.png")
    index.add(cats)
    index.update(cats / name, labels="mine", metadata={"a": 1})
    (cats / name).rename(cats / "moved.png")
    assert (index.add(cats).moved, index.count()) == (1, 12)
    assert index.get(cats / "moved.png").labels == ("mine",)
    assert index.get(cats / "moved.png").metadata == {"a": 1}
    (other,) = {"cat.0.png", "cat.1.png"} - {name}
    assert index.get(cats / other).labels == ("cats",)


@pytest.mark.parametrize("size", [1, 5, 64])
@pytest.mark.parametrize(("seed", "is_whole"), [(1, True), (2, True), (3, False)])
def test_what_was_said_of_a_picture_goes_with_it(index, photos, monkeypatch, size, seed, is_whole):
    """Files are numbered anew: each content is at the place of another, some at new ones."""
    if not is_whole:  # the run stops before its end
        monkeypatch.setattr(run.Resolver, "settle", lambda resolver: None)
    monkeypatch.setattr(run, "_GROUP_SIZE", size)
    monkeypatch.setattr(run, "WRITE_SIZE", size)
    files = sorted(photos.rglob("*.png"))
    contents = [file.read_bytes() for file in files]
    contents[3] = contents[2]  # two of one content, of which other things are said
    files[3].write_bytes(contents[3])
    index.add(photos)
    for number, file in enumerate(files):
        index.update(file, labels=f"picture {number}", metadata={"number": number})
    for file in files:
        file.unlink()
    places = [*files, photos / "new.png", photos / "cats" / "new.png"]
    np.random.default_rng(seed).shuffle(places)
    places = places[: len(files)]
    for place, data in zip(places, contents, strict=True):
        place.write_bytes(data)
    index.add(photos, prune=True)
    assert index.count() == len(files)
    labels = [index.get(place).labels for place in places]
    if not is_whole:
        labels = [tuple(sorted({*said} & {f"picture {i}"})) for i, said in enumerate(labels)]
    assert labels[:2] + labels[4:] == [(f"picture {i}",) for i in range(12) if i not in {2, 3}]
    assert not is_whole or sorted(labels[2:4]) == [("picture 2",), ("picture 3",)]
    assert [dict(index.get(place).metadata)["number"] for place in places[4:]] == [*range(4, 12)]


def test_a_run_that_is_stopped_loses_nothing_that_was_said(index, photos, monkeypatch):
    """Of three pictures that take each other's places one is written."""
    files = sorted((photos / "cats").iterdir())[:3]
    contents = [file.read_bytes() for file in files]
    for number, file in enumerate(files):
        index.update(file, labels=f"picture {number}")
        file.write_bytes(contents[number - 2])

    def stop(indexer, found, analyzer, advance=run.Indexer._advance):
        os.kill(os.getpid(), signal.SIGINT)
        return advance(indexer, found, analyzer)

    with monkeypatch.context() as patch:
        patch.setattr(run.Indexer, "_advance", stop)
        with pytest.raises(run.StoppedError):
            index.add(files)
    assert index.get(files[0]).labels == ("picture 1", "picture 0")
    index.add(files)
    said = [label for file in files for label in index.get(file).labels]
    assert {*said} == {"picture 0", "picture 1", "picture 2"}


def test_a_place_keeps_nothing_of_a_picture_that_moved_on_to_that_of_an_unnamed_one(
    index, photos, monkeypatch
):
    named, unnamed = photos / "dogs" / "dog.0.png", photos / "cats" / "cat.0.png"
    index.update(unnamed, labels=[])
    before = index.get(unnamed)
    ask = index.store.by_content

    def late(hashes):  # when the unnamed one's place is written over
        while before.sha256 in hashes and before.sha256 == index.get(unnamed).sha256:
            time.sleep(0.01)
        return ask(hashes)

    one, other = named.read_bytes(), unnamed.read_bytes()
    named.write_bytes(other)
    unnamed.write_bytes(one)
    monkeypatch.setattr(index.store, "by_content", late)
    monkeypatch.setattr(run, "_GROUP_SIZE", 1)
    monkeypatch.setattr(run, "WRITE_SIZE", 1)
    index.add([unnamed, named])
    assert (index.get(unnamed).labels, index.get(named).labels) == (("dogs",), ())


def test_what_was_said_moves_on_between_places_of_broken_files(index, photos, monkeypatch):
    """A broken file comes in the place of a picture, and that in the place of a broken file."""
    monkeypatch.setattr(run, "_GROUP_SIZE", 1)
    monkeypatch.setattr(run, "WRITE_SIZE", 1)
    one, two, three = sorted((photos / "cats").iterdir())[:3]
    for number, file in enumerate([one, two, three]):
        index.update(file, labels=f"picture {number}")
    three.write_bytes(b"broken")
    index.add(photos)
    two.replace(three)
    one.replace(two)
    one.write_bytes(b"broken")
    index.add(photos)
    assert index.get(two).labels == ("picture 0",)
    assert index.get(three).labels == ("picture 1", "picture 2")


@pytest.mark.parametrize(("said", "then"), [((), ("cats",)), (("edited",), ("edited", "cats"))])
def test_a_picture_in_the_place_of_another_loses_nothing(index, photos, said, then):
    index.update(photos / "cats" / "cat.1.png", labels=said)
    (photos / "cats" / "cat.1.png").replace(photos / "cats" / "cat.0.png")
    index.add(photos, prune=True)
    assert index.get(photos / "cats" / "cat.0.png").labels == then


@pytest.mark.parametrize("size", [1, 2048])
def test_what_is_said_of_deleted_copies_goes_to_one_that_stays(index, photos, monkeypatch, size):
    monkeypatch.setattr(gone, "_REMOVED_TOGETHER", size)
    cats = photos / "cats"
    copies = [cats / f"copy {i}.png" for i in range(6)]
    for copy in copies:
        shutil.copy(cats / "cat.0.png", copy)
    index.add(photos)
    same = sorted([*copies, cats / "cat.0.png"], key=lambda path: picture_id(str(path)))
    stays, too = same[2:4]
    for path in same[:2] + same[4:]:
        index.update(path, labels=path.stem)
        path.unlink()
    for path in (stays, too):
        index.update(path, labels=())
    index.add(photos, prune=True)
    assert index.get(stays).labels == tuple(path.stem for path in same[:2] + same[4:])
    assert index.get(too).labels == ()


def test_a_copy_needs_no_analysis_and_has_labels_of_its_own(index, photos, fake_model):
    shutil.copy(photos / "cats" / "cat.0.png", photos / "copy.png")
    fake_model.calls = 0
    report = index.add(photos)
    assert (counts(report), report.reused, fake_model.calls) == ((1, 0, 12, 0, 0), 1, 0)
    assert index.get(photos / "copy.png").labels == ()


@pytest.mark.parametrize("batch_size", [4, 100])
def test_copies_within_a_run_are_analyzed_once(new, photos, fake_model, monkeypatch, batch_size):
    seen, predict = [], fake_model.predict

    def count(self, pixels):
        seen.append(len(pixels))
        return predict(self, pixels)

    monkeypatch.setattr(fake_model, "predict", count)
    for i in range(3):
        shutil.copy(photos / "cats" / "cat.0.png", photos / "dogs" / f"copy{i}.png")
    report = new.add(photos, batch_size=batch_size)
    assert (counts(report), report.reused) == ((15, 0, 0, 0, 0), 3)
    assert sum(seen) == 2 + 12  # two to learn the length of the deep feature
    terms = {new.get(photos / "dogs" / f"copy{i}.png").terms for i in range(3)}
    assert terms == {new.get(photos / "cats" / "cat.0.png").terms}


# -- the ledger ---------------------------------------------------------------------------------


def test_rejected_pictures_are_noted_until_they_are_indexed(index, photos):
    bad = photos / "bad.png"
    bad.write_text("no picture")
    report = index.add(photos)
    (entry,) = index.rejected()
    assert entry == report.rejected[0]
    assert entry.uri == str(bad)
    assert entry.sha256 == hashlib.sha256(b"no picture").hexdigest()
    noise(8).save(bad)
    report = index.add(photos)
    assert (counts(report), index.rejected()) == ((1, 0, 12, 0, 0), [])


def test_an_unchanged_rejected_picture_is_not_decoded_again(index, photos, monkeypatch):
    (photos / "bad.png").write_text("no picture")
    index.add(photos)
    decoded = []

    def open_image(data, **options):
        decoded.append(options["uri"])
        return images.open_image(data, **options)

    monkeypatch.setattr("imgsearch_es.analysis.analyzer.open_image", open_image)
    report = index.add(photos)
    assert (counts(report), report.as_before, decoded) == ((0, 0, 12, 0, 1), 1, [])
    report = index.add(photos, retry=True)
    assert (counts(report), report.as_before) == ((0, 0, 12, 0, 1), 0)
    assert decoded == [str(photos / "bad.png")]
    report = index.retry()
    assert (counts(report), report.as_before) == ((0, 0, 0, 0, 1), 0)


def test_what_was_too_large_or_could_not_be_read_is_tried_again(new, photos):
    noise(1).resize((40, 40)).save(photos / "large.png")
    (photos / "link.png").symlink_to(photos / "later.png")
    assert counts(new.add(photos, limits=Limits(max_pixels=1000))) == (12, 0, 0, 0, 2)
    large, link = new.rejected()
    assert "40 x 40 pixels are over the limit" in large.reason
    assert link.sha256 == ""
    noise(4).save(photos / "later.png")
    assert counts(new.add(photos)) == (3, 0, 12, 0, 0)
    assert new.rejected() == []


def test_a_broken_picture_from_memory_is_not_noted(new):
    report = new.add([b"no picture", noise(1)])
    assert counts(report) == (1, 0, 0, 0, 1)
    assert "not a picture" in report.rejected[0].reason
    assert new.rejected() == []


# -- counts -------------------------------------------------------------------------------------


def test_a_store_that_loses_documents_is_noticed(new, photos, monkeypatch):
    new.create()
    write = new.store.write

    def lose_one(documents):
        write(documents[1:])
        return WriteReport(len(documents))

    monkeypatch.setattr(new.store, "write", lose_one)
    with pytest.raises(ReconciliationError, match=r"1 of the 12 documents written to .* are not"):
        new.add(photos)


def test_another_program_that_writes_is_no_loss(new, photos, tmp_path, monkeypatch):
    new.create()
    write = new.store.write
    with ImageIndex(tmp_path / "other.duckdb", model="fake") as other:
        other.add(noise(77))
        (foreign,) = other.store.get([key for key, _ in other.store.below("")]).values()

    def write_more(documents):
        return WriteReport(write([*documents, foreign]).stored - 1)

    monkeypatch.setattr(new.store, "write", write_more)
    assert counts(new.add(photos)) == (12, 0, 0, 0, 0)
    assert new.count() == 13


# -- interruptions ------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 6, 12])
def test_an_interrupted_run_is_completed_by_the_next(new, index, photos, after):
    calls = itertools.count(1)

    def interrupt(report: IndexReport, total: int) -> None:
        if next(calls) == after:
            raise KeyboardInterrupt

    options = {"batch_size": 4, "labels": folder_label}
    with pytest.raises(KeyboardInterrupt):
        new.add(photos, **options, progress=interrupt)
    stored = new.count() if new.exists else 0
    assert stored == max(0, after // 4 - 2) * 4  # all but the two batches that the model has
    with ImageIndex(new.location, model="fake") as again:
        assert counts(again.add(photos, **options)) == (12 - stored, 0, stored, 0, 0)
        assert content(again) == content(index)


def test_an_error_of_the_model_keeps_what_was_analyzed(new, photos, fake_model, monkeypatch):
    new.create()
    predict = fake_model.predict

    def fail_at_last(self, pixels):
        if fake_model.calls == 3:
            raise RuntimeError("out of memory")
        return predict(self, pixels)

    monkeypatch.setattr(fake_model, "predict", fail_at_last)
    with pytest.raises(RuntimeError, match="out of memory"):
        new.add(photos, batch_size=4)
    assert new.count() == 8


def test_pictures_in_memory(new, fake_model):
    image = noise(1)
    file = io.BytesIO()
    noise(2).save(file, "PNG")
    array = np.asarray(noise(3))
    sources = [image, file.getvalue(), io.BytesIO(file.getvalue()), array]
    totals = []
    found = new.add(sources, progress=lambda report, total: totals.append(total))
    assert counts(found) == (3, 0, 0, 0, 0)  # the file's bytes came twice
    assert {*totals} <= {4, 3}
    fake_model.calls = 0
    assert counts(new.add(image)) == (0, 0, 1, 0, 0)
    assert counts(new.add(array)) == (0, 0, 1, 0, 0)
    assert counts(new.add(bytearray(file.getvalue()))) == (0, 0, 1, 0, 0)
    assert fake_model.calls == 0
    assert all(uri.startswith("sha256:") for uri in content(new))
    assert new.search(image).uris[0].startswith("sha256:")


def test_a_file_named_twice_counts_once(new, photos):
    one = photos / "cats" / "cat.0.png"
    assert counts(new.add(path for path in (one, one, photos / "cats"))) == (6, 0, 0, 0, 0)


def test_a_wrong_path_and_an_empty_folder_make_no_index(new, photos, tmp_path):
    with pytest.raises(SourceError, match="nowhere"):
        new.add([photos, photos / "nowhere"])
    (tmp_path / "empty").mkdir()
    assert counts(new.add(tmp_path / "empty")) == (0, 0, 0, 0, 0)
    assert not new.exists


def test_progress_and_the_report_as_json_and_as_a_sentence(new, photos):
    (photos / "bad.png").touch()
    seen = []
    report = new.add(photos, progress=lambda r, total: seen.append((r.found, total)))
    assert {total for _, total in seen} <= {None, 13}
    assert seen[-1] == (13, 13)
    assert [found for found, _ in seen] == sorted(found for found, _ in seen)
    found = json.loads(json.dumps(report.to_dict()))
    (rejected,) = found.pop("rejected")
    assert (rejected["uri"], rejected["reason"]) == (str(photos / "bad.png"), "the file is empty")
    assert datetime.fromisoformat(rejected["rejected_at"]).tzinfo
    assert set(found.pop("stages")) == set(STAGES)
    assert found.pop("seconds") > 0
    assert found.pop("pictures_per_second") > 0
    nothing = ("updated", "unchanged", "removed", "reused", "moved", "as_before", "shortages")
    others = {"passed_over": {".txt": 1}, "kept": []}
    assert found == {"found": 13, "added": 12, **others, **dict.fromkeys(nothing, 0)}
    assert str(report) == "12 added, 0 updated, 0 unchanged, 1 rejected; passed over: 1 .txt"
    report.removed = 2
    assert report.counts == "12 added, 0 updated, 0 unchanged, 2 removed, 1 rejected"
