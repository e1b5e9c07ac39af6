"""Datasets of Hugging Face as sources of `add`: in memory, streaming, and a folder of images."""

from __future__ import annotations

import io
import time
from datetime import date

import datasets
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import SourceError
from imgsearch_es.pictures.sources import table_rows
from tests.fakes import noise

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def png(number: int) -> bytes:
    data = io.BytesIO()
    noise(number).save(data, "PNG")
    return data.getvalue()


def table() -> object:
    return datasets.Dataset.from_dict(
        {
            "caption": ["a cat", "a dog", None, "broken"],
            "image": [{"bytes": png(n), "path": f"{n}.png"} for n in range(3)]
            + [{"bytes": b"no picture", "path": "x.png"}],
            "label": [0, 1, 1, 0],
            "year": [2019, 2020, 2021, 2022],
            "boxes": [[[1, 2]], [[3, 4]], [], []],
        },
        features=datasets.Features(
            {
                "caption": datasets.Value("string"),
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["cat", "dog"]),
                "year": datasets.Value("int64"),
                "boxes": datasets.List(datasets.List(datasets.Value("int64"))),
            }
        ),
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_pictures_labels_and_metadata_of_columns(fake_model, tmp_path, streaming):
    dataset = table().to_iterable_dataset() if streaming else table()
    with ImageIndex(tmp_path / "new.duckdb", model="fake") as index:
        report = index.add(dataset)
        assert (report.added, len(report.rejected)) == (3, 1)
        first = index.search(noise(0), strategy="dense-cosine", k=1)[0].document
        assert (first.labels, first.format, first.bytes) == (("cat",), "PNG", len(png(0)))
        assert first.metadata == {"caption": "a cat", "year": 2019, "boxes": [[1, 2]]}
        assert [one["value"] for one in index.facets(fields="label")["label"]] == ["dog", "cat"]
        assert index.search(where={"label": "dog"}).total == 2
        again = index.add(dataset)
        assert (again.added, again.unchanged) == (0, 3)


def test_a_folder_of_images_keeps_its_files(fake_model, photos, tmp_path):
    dataset = datasets.load_dataset(
        "imagefolder", data_dir=str(photos), split="train", cache_dir=str(tmp_path / "cache")
    )
    with ImageIndex(tmp_path / "new.duckdb", model="fake") as index:
        assert index.add(dataset).added == 12
        assert index.get(photos / "cats" / "cat.0.png").labels == ("cats",)
    lists = dataset.cast_column("label", datasets.Value("string")).map(
        lambda row: {"labels": [row["label"], "pet"]}, remove_columns=["label"]
    )
    with ImageIndex(tmp_path / "lists.duckdb", model="fake") as index:
        index.add([lists, noise(5)])
        assert index.count() == 13
        assert index.get(photos / "cats" / "cat.0.png").labels == ("0", "pet")


def test_labels_of_test_sets_and_odd_ones():
    def labels(value: object, kind: object) -> list[object]:
        rows = {"image": [{"bytes": png(0), "path": None}], "label": [value]}
        features = datasets.Features({"image": datasets.Image(), "label": kind})
        made = datasets.Dataset.from_dict(rows, features=features)
        return [row.labels for row in table_rows(made, lambda kind: None)]

    classes = datasets.ClassLabel(names=["cat", "dog"])
    assert labels(-1, classes) == [()]  # which nobody has labeled
    assert labels([1, None, -1, 0], datasets.List(classes)) == [("dog", "cat")]
    assert labels(-1, datasets.Value("int64")) == [("-1",)]
    with pytest.raises(SourceError, match=r"a label that is none .* is no text or number"):
        labels({"path": None, "bytes": png(1)}, datasets.Image())


@pytest.mark.parametrize("streaming", [False, True])
def test_other_columns_are_metadata_and_no_other_picture_is_decoded(
    fake_model, tmp_path, streaming
):
    image = datasets.Image()
    broken = {"bytes": b"no picture", "path": "x.png"}
    rows = {
        "image": [{"bytes": png(0), "path": None}, {"bytes": b"", "path": "0.png"}],
        "mask": [broken, None],
        "more": [[broken], []],
        "label": ["cat", "dog"],
        "labels": [["pet"], None],
        "taken": [date(2019, 5, 1), None],
        "size": [{"cm": 3, "notes": ["a", None]}, None],
    }
    pictures = {"image": image, "mask": image, "more": datasets.List(image)}
    made = datasets.Dataset.from_dict(rows).cast_column("image", image)
    made = made.cast(datasets.Features({**made.features, **pictures}))
    for form in (None, "numpy"):
        dataset = made.to_iterable_dataset() if streaming else made
        with ImageIndex(tmp_path / f"{form}.duckdb", model="fake") as index:
            report = index.add(dataset.with_format(form))
            assert [entry.reason for entry in report.rejected] == ["the file is empty"]
            document = index.search(noise(0), strategy="dense-cosine", k=1)[0].document
            assert document.labels == ("cat",)
            size = {"cm": 3, "notes": ["a", None]}
            expected = {"labels": ["pet"], "taken": "2019-05-01", "size": size}
            assert document.metadata == expected


def test_a_row_without_a_picture_is_passed_over(fake_model, tmp_path):
    rows = [{"image": {"bytes": png(0), "path": None}}, {"image": None}]
    rows += [{"image": {"bytes": None, "path": ""}}, {"image": {"bytes": png(1), "path": None}}]
    image = datasets.Features({"image": datasets.Image()})
    dataset = datasets.IterableDataset.from_generator(lambda: iter(rows), features=image)
    with ImageIndex(tmp_path / "new.duckdb", model="fake") as index:
        report = index.add(dataset)
        assert (report.added, dict(report.passed_over)) == (2, {"without picture": 2})
        assert str(report).endswith("0 rejected; passed over: 2 without picture")


def test_a_dataset_beside_the_folder_of_its_pictures(fake_model, tmp_path):
    place = tmp_path / "a.png"
    place.write_bytes(png(0))
    rows = {"image": [str(place)] * 2, "label": ["cat", "dog"]}
    dataset = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    with ImageIndex(tmp_path / "new.duckdb", model="fake") as index:
        report = index.add([tmp_path, dataset])
        assert (report.added, index.get(place).labels) == (1, ("cat",))
        assert report.passed_over["named again with other labels or metadata"] == 1


def test_a_stream_that_breaks_off_says_where_and_goes_on_later(fake_model, tmp_path):
    ends = [ConnectionError("reset by peer"), None]

    def rows():
        yield from ({"image": {"bytes": png(number), "path": None}} for number in range(100))
        if error := ends.pop(0):
            raise error

    image = datasets.Features({"image": datasets.Image()})
    dataset = datasets.IterableDataset.from_generator(rows, features=image)
    with ImageIndex(tmp_path / "new.duckdb", model="fake") as index:
        with pytest.raises(SourceError, match=r"after row 100: ConnectionError: reset by peer"):
            index.add(dataset)
        done = index.count()
        report = index.add(dataset)
        assert (report.added, report.unchanged) == (100 - done, done)
        assert done > 0


def test_pictures_wait_in_bounded_number(fake_model, tmp_path, monkeypatch):
    made, waiting = [], []
    predict = fake_model.predict

    def slow(self, pixels):
        waiting.append(len(made))
        time.sleep(0.2)
        return predict(self, pixels)

    def rows():
        for number in range(600):
            made.append(number)
            yield {"image": {"bytes": png(number), "path": None}}

    monkeypatch.setattr(fake_model, "predict", slow)
    image = datasets.Features({"image": datasets.Image()})
    dataset = datasets.IterableDataset.from_generator(rows, features=image)
    with ImageIndex(tmp_path / "new.duckdb", model="fake") as index:
        assert index.add(dataset, batch_size=100).added == 600
    assert waiting[0] < 500


def test_a_dataset_without_pictures_says_what_it_has(fake_model, tmp_path):
    with (
        ImageIndex(tmp_path / "new.duckdb", model="fake") as index,
        pytest.raises(SourceError, match=r"no column of images; it has text"),
    ):
        index.add(datasets.Dataset.from_dict({"text": ["a"]}))
