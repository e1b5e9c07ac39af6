from __future__ import annotations

import json
import zipfile

import pytest

from imgsearch_es.analysis.configuration import is_same_analyzer
from imgsearch_es.analysis.models.keras_file import KerasFileModel, read_labels, to_vocabulary
from imgsearch_es.errors import AnalyzerError, ConfigurationError, WeightsError
from imgsearch_es.indexing.wanted_analyzer import WantedAnalyzer
from imgsearch_es.stores.settings import IndexSettings
from imgsearch_es.vocabulary.synsets import from_labels, imagenet


@pytest.fixture
def save(tmp_path):
    """Write a .keras file that has a description only."""

    def write(shape=(None, 32, 48, 3), extra=()):
        first = {"class_name": "InputLayer", "config": {"batch_shape": shape}}
        config = {"class_name": "Sequential", "config": {"layers": [first, *extra]}}
        path = tmp_path / "mine.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(config))
        return path

    return write


def make(path, **options):
    return KerasFileModel(f"keras:{path}", **{"labels": ["cat", "dog"]} | options)


def test_the_input_and_the_labels_are_known_without_loading(save):
    path = save()
    model = make(path)
    assert model.name == f"keras:{path}"
    assert model.vocabulary.keys == ("cat", "dog")
    assert model.image_filters == [
        {"name": "resize", "height": 32, "width": 48, "interpolation": "bilinear"}
    ]
    assert model.fingerprint().startswith("sha256:")
    options = {key: value for key, value in model.config.items() if key != "name"}
    assert KerasFileModel(model.config["name"], **options).config == model.config


def test_a_relative_path_becomes_absolute(save, monkeypatch):
    monkeypatch.chdir(save().parent)
    assert make("mine.keras").name == f"keras:{save()}"


def test_an_input_of_any_size_needs_options(save):
    path = save((None, None, None, 3))
    with pytest.raises(ConfigurationError, match="height and width"):
        make(path)
    assert make(path, height=10, width=20).size == (10, 20)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((None, 32, 32, 1), {}, "not RGB"),
        ((None, 784), {}, "not RGB"),
        ((None, 32, 32, 3), {"height": 64}, "height 32, not 64"),
        ((None, 32, 32, 3), {"rescale": "0-1"}, "rescale is one of none, 0..1.*vgg16"),
        ((None, 32, 32, 3), {"activation": "relu"}, "activation is one of auto"),
    ],
)
def test_wrong_inputs_and_options(save, shape, options, message):
    with pytest.raises(AnalyzerError, match=message):
        make(save(shape), **options)


def test_python_code_in_the_file_is_refused_before_keras_sees_it(save):
    with pytest.raises(WeightsError, match=r"mine\.keras holds a Lambda layer"):
        make(save(extra=[{"class_name": "Lambda", "config": {}}]))


def test_files_that_are_no_model(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        make(tmp_path / "nothing.keras")
    with pytest.raises(WeightsError, match="folder"):
        make(tmp_path)
    with pytest.raises(AnalyzerError, match="keras:PATH"):
        KerasFileModel("keras")
    (tmp_path / "x.keras").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(WeightsError, match=r"x\.keras is not a model"):
        make(tmp_path / "x.keras")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.labels.txt", "cat\nsea lion\n"),
        ("labels.txt", "\ufeffcat \r\nsea lion\r\n\r\n"),
        ("labels.json", '["cat", "sea lion"]'),
        ("labels.json", '{"1": "sea lion", "0": "cat"}'),
    ],
)
def test_labels_are_found_beside_the_model(save, name, text):
    path = save()
    path.with_name(name).write_bytes(text.encode())
    model = make(path, labels=None)
    assert [synset.name for synset in model.vocabulary] == ["cat", "sea lion"]
    assert model.config["labels"] == str(path.with_name(name))


def test_labels_that_are_not_there(save, tmp_path):
    with pytest.raises(ConfigurationError, match=r"labels=FILE.*mine\.labels\.txt"):
        make(save(), labels=None)
    with pytest.raises(ConfigurationError, match=r"No such file.*other\.txt"):
        make(save(), labels=tmp_path / "other.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"0": "cat", "2": "dog"}', "object by number"),
        ("3", "list of labels"),
        ("[1, 2]", "list of labels"),
        ("[", "cannot read the labels in"),
    ],
)
def test_malformed_labels(tmp_path, text, message):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_labels(path)


@pytest.mark.parametrize("part", ["key", "name", "wnid"])
def test_the_imagenet_classes_in_order_are_imagenet(part):
    labels = [getattr(synset, part) for synset in imagenet()]
    assert to_vocabulary(labels) is imagenet()
    if part != "name":  # some names occur twice
        assert to_vocabulary(labels[::-1]).name == ("wordnet" if part == "wnid" else "labels")


def test_wnids_are_synsets_but_in_an_index_of_before(save):
    model = make(save(), labels=["n02084071", "cat"])
    assert model.vocabulary.keys == ("dog", "cat")
    assert model.config["wordnet"] is True
    assert "wordnet" not in make(save(), labels=["dog", "cat"]).config
    old = {name: value for name, value in model.config.items() if name != "wordnet"}
    filters = {"image_filters": [], "term_filters": [], "embedding": True}
    for stored, vocabulary in (({"model": old, **filters}, from_labels(["n02084071", "cat"])),
                               ({"model": model.config, **filters}, model.vocabulary)):  # fmt: skip
        analyzer = WantedAnalyzer().build(IndexSettings(stored, "", vocabulary, 0))
        assert analyzer.vocabulary == vocabulary
        assert is_same_analyzer(analyzer.config, "", stored, "")
