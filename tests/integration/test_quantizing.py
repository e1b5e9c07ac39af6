"""A classifier with 8 bits: made by NNCF from real weights, and used like any other."""

from __future__ import annotations

import io
import logging
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from imgsearch_es import ImageIndex, find_images
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.models import create_model
from imgsearch_es.errors import (
    AnalyzerError,
    AnalyzerMismatchError,
    ConfigurationError,
    MissingDependencyError,
    SourceError,
    WeightsError,
)
from imgsearch_es.interfaces.cli import app
from imgsearch_es.learning.quantizing import quantize
from imgsearch_es.pictures.demo import make_photos
from imgsearch_es.pictures.images import open_image
from tests.conftest import python
from tests.integration import NUMPY_2

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = make_photos(tmp_path_factory.mktemp("photos"))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return folder


def first(photos):
    return next(uri for uri in find_images(photos) if "broken" not in uri)


@pytest.fixture(scope="module")
def made(photos):
    create_model("efficientnet-lite0").checked_network()  # Keras counts its layers on
    return quantize(photos, photos.parent / "lite0.zip", pictures=200)


@pytest.fixture(scope="module")
def pixels(photos):
    analyzer = Analyzer("efficientnet-lite0")
    uris = [uri for uri in find_images(photos) if "broken" not in uri][:5]
    return np.stack([analyzer.prepare(open_image(uri).image) for uri in uris])


def test_what_it_changes_is_measured_on_pictures_kept_back(made, photos):
    readable = sum(1 for _ in find_images(photos)) - 1
    assert (made.fitted + made.compared, made.rejected) == (readable, 1)
    assert made.compared == (readable + 2) // 3
    assert made.model == "efficientnet-lite0"
    assert made.best > 0.7
    assert made.terms > 0.7
    assert made.hits > 0.6
    assert 1e-4 < made.largest_difference < 0.6
    assert made.speed > 0
    assert made.bytes < 8_000_000  # the weights are 18 MB as 32-bit floats


def test_it_leaves_loggers_alone(made, photos, caplog):
    assert "nncf" in sys.modules
    assert type(logging.getLogger("imgsearch_es.made_later")) is logging.Logger
    with pytest.raises(SourceError):
        quantize(photos / "broken.jpg", photos.parent / "none.zip")
    assert "passed over" in caplog.text


def test_it_is_a_model_of_its_own(made, pixels):
    model = create_model(f"quantized:{made.path}")
    reference = create_model("efficientnet-lite0")
    assert model.fingerprint() == f"sha256:{made.sha256}"
    assert model.vocabulary.keys == reference.vocabulary.keys
    one, other = (Analyzer(name) for name in (f"quantized:{made.path}", "efficientnet-lite0"))
    assert one.config["image_filters"] == other.config["image_filters"]
    one, other = model.predict(pixels), reference.predict(pixels)
    assert one.posterior.shape == other.posterior.shape
    assert one.embedding.shape == other.embedding.shape
    apart = float(np.abs(one.posterior - other.posterior).max())
    assert 1e-4 < apart < 0.6
    assert model.predict(pixels[:0]).posterior.shape == (0, 1000)
    with pytest.raises(AnalyzerError, match=r"takes pixels of shape"):
        model.predict(pixels[:, :100])


def test_it_is_indexed_and_searched_without_tensorflow(made, photos, tmp_path):
    program = f"""
import sys
from imgsearch_es import ImageIndex
with ImageIndex({str(tmp_path / "index.duckdb")!r}, model={f"quantized:{made.path}"!r}) as index:
    report = index.add({str(photos)!r})
    hits = index.search({first(photos)!r}, strategy="dense-cosine", k=1)
print(report.added, len(report.rejected), round(hits[0].score, 5))
print(sorted({{"tensorflow", "keras", "nncf", "openvino_telemetry"}} & sys.modules.keys()))
"""
    done = python("-c", program)
    assert done.stdout.split("\n")[1] == "[]", done.stderr
    added, rejected, score = done.stdout.split("\n")[0].split()
    assert (int(added), int(rejected)) == (made.fitted + made.compared, 1)
    assert float(score) == 1
    with (
        ImageIndex(tmp_path / "index.duckdb", model="efficientnet-lite0") as other,
        pytest.raises(AnalyzerMismatchError),
    ):
        other.search(image=first(photos))


def test_an_index_follows_its_file_and_refuses_another(made, photos, tmp_path):
    place = tmp_path / "index.duckdb"
    picture = first(photos)
    with ImageIndex(place, model=f"quantized:{made.path}") as index:
        index.add(picture)
    moved = tmp_path / "moved.zip"
    moved.write_bytes((photos.parent / "lite0.zip").read_bytes())
    with ImageIndex(place, model=f"quantized:{moved}") as index:
        assert index.add(picture).unchanged == 1
        assert len(index.search(picture)) == 1


def test_what_cannot_be_quantized(made, photos, tmp_path):
    for out, message in (
        (made.path, r"exists: give another name, or force"),
        (tmp_path / "lite0.xml", r"its name must end in \.zip"),
        (tmp_path / "none" / "lite0.zip", r"none is no folder to write to"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            quantize(photos, out)
    with pytest.raises(ConfigurationError, match=r"is no network of Keras"):
        quantize(photos, tmp_path / "b.zip", analyzer=f"quantized:{made.path}")
    filters = [{"name": "resize", "shorter_side": 224}]
    wide = {"model": "efficientnet-lite0", "image_filters": filters}
    with pytest.raises(AnalyzerError, match=r"do the image filters fit the model\?"):
        quantize(photos, tmp_path / "b.zip", analyzer=Analyzer(wide))
    few = list(find_images(photos))[:59]
    with pytest.raises(SourceError, match=r"needs 60 pictures or more, and \d+ can be read"):
        quantize(few, tmp_path / "b.zip")
    assert not list(tmp_path.iterdir())


@NUMPY_2
def test_a_classifier_with_labels_of_its_own(photos, tmp_path):
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    parts = [keras.Input((32, 32, 3)), layers.Rescaling(1 / 255)]
    parts += [layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    network = keras.Sequential([*parts, layers.Dense(3, activation="softmax")])
    network.save(tmp_path / "birds.keras")
    labels = ["Great tit", "Blue tit", "it's_none"]
    (tmp_path / "birds.labels.txt").write_text("\n".join(labels))
    name = f"keras:{tmp_path / 'birds.keras'}"
    small = quantize(photos, tmp_path / "birds.zip", analyzer=name)
    model = create_model(f"quantized:{small.path}")
    assert [synset.name for synset in model.vocabulary] == labels
    assert model.vocabulary.keys == create_model(name).vocabulary.keys
    assert model.image_filters == Analyzer(name).config["image_filters"]
    assert small.terms == 1  # all three are terms


def test_without_nncf_it_says_what_to_install(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[int8\]'"):
        quantize(photos, tmp_path / "b.zip")


def test_files_that_are_none(made, tmp_path):
    bad = tmp_path / "bad.zip"
    for content in (b"", b"nothing", zipped("model.json", "[]"), zipped("x")):
        bad.write_bytes(content)
        with pytest.raises(WeightsError, match=r"is no file that `imgsearch quantize` made"):
            create_model(f"quantized:{bad}")
    bad.write_bytes(zipped("model.json", '{"format": 2}'))
    with pytest.raises(WeightsError, match=r"another version"):
        create_model(f"quantized:{bad}")
    with pytest.raises(WeightsError, match=r"does not exist"):
        create_model(f"quantized:{tmp_path}/none.zip")
    for broken in (without_network(made.path), with_another_byte(made.path)):
        bad.write_bytes(broken)
        with pytest.raises(WeightsError, match=r"or it is damaged"):
            create_model(f"quantized:{bad}").predict(np.zeros((1, 224, 224, 3), np.uint8))
    with pytest.raises(AnalyzerError, match=r"is named quantized:FILE"):
        create_model("quantized:")


def without_network(path):
    with zipfile.ZipFile(path) as whole:
        return zipped("model.json", whole.read("model.json"))


def with_another_byte(path):
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 255
    return bytes(content)


def zipped(name, text=""):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, text)
    return content.getvalue()


def test_the_same_pictures_give_the_same_file_in_any_process(made, photos, tmp_path):
    command = ["quantize", str(photos), "-m", "efficientnet-lite0", "-o", str(tmp_path / "a.zip")]
    done = python("-m", "imgsearch_es", *command)
    assert done.returncode == 0, done.stderr
    assert "the best synset is the same" in done.stdout
    assert f"--model quantized:{tmp_path / 'a.zip'}" in done.stdout
    assert "Traceback" not in done.stderr
    assert "broken.jpg" in done.stderr
    assert (tmp_path / "a.zip").read_bytes() == Path(made.path).read_bytes()
    refused = CliRunner().invoke(app, command)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "exists" in refused.stderr
