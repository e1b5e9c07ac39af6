"""What the package exports, and what importing it loads."""

from __future__ import annotations

import configparser
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import imgsearch_es
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.embedded.store import EmbeddedStore
from imgsearch_es.vocabulary.synsets import imagenet

HEAVY = (
    *("tensorflow", "keras", "matplotlib", "elasticsearch", "IPython", "ipywidgets", "openvino"),
    *("ir_measures", "pytrec_eval", "scipy"),
)
MAIN = "from imgsearch_es.__main__ import main\ntry:\n    main()\nexcept SystemExit: pass"


def loaded_by(code: str, *others: str) -> set[str]:
    """The heavy modules, and others, that a fresh Python has loaded after running some code."""
    report = f"\nimport sys; print('LOADED', *(m for m in {HEAVY + others} if m in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + report],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.rpartition("LOADED")[2].split())


def test_all_is_sorted_and_every_name_can_be_imported():
    assert imgsearch_es.__all__ == sorted(imgsearch_es.__all__)
    for name in imgsearch_es.__all__:
        assert getattr(imgsearch_es, name) is not None
    assert dir(imgsearch_es) == imgsearch_es.__all__


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = imgsearch_es.Nothing


MOVED = [n for n in imgsearch_es._MOVED if n != "mteb" or sys.version_info >= (3, 11)]


@pytest.mark.parametrize("name", [*MOVED, "metric_learning.examples"])
def test_a_module_that_moved_is_the_same_by_its_old_name(name):
    top, dot, inner = name.partition(".")
    home = f"imgsearch_es.{imgsearch_es._MOVED[top]}{dot}{inner}"
    module = importlib.import_module(f"imgsearch_es.{name}")
    assert module is importlib.import_module(home)
    assert module.__name__ == module.__spec__.name == home


def test_a_module_that_never_was_is_not_found():
    for name in ("nothing", "metric_learning.nothing"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"imgsearch_es.{name}")


@pytest.mark.parametrize(
    ("code", "others"),
    [
        ("from imgsearch_es import *", "jinja2"),
        (f"import sys; sys.argv = ['imgsearch', '--help']\n{MAIN}", "jinja2"),
        ("import imgsearch_es.pictures.images", "duckdb fsspec"),
        ("import imgsearch_es.vocabulary.synsets as s; s.imagenet()", "numpy difflib PIL"),
    ],
)
def test_importing_loads_nothing_heavy(code, others):
    assert loaded_by(code, *others.split()) == set()


def test_the_check_itself_notices():
    assert loaded_by("import scipy") == {"scipy"}


def test_a_keyword_search_loads_no_model(tmp_path):
    location = str(tmp_path / "a.duckdb")
    store = EmbeddedStore(location)
    settings = {"model": {"name": "vgg16"}, "image_filters": [], "term_filters": []}
    store.create(IndexSettings(settings, "sha256:0", imagenet(), 0))
    store.close()
    command = f"import sys; sys.argv = ['imgsearch', 'search', 'dog', '-i', {location!r}]\n{MAIN}"
    assert loaded_by(command) == set()


def test_a_program_in_which_numpy_raises():
    loaded_by("import numpy; numpy.seterr(all='raise')\nimport imgsearch_es.stores.embedded.store")


def test_every_requirement_names_the_lowest_version_that_works():
    """Where none is named, pip keeps what is there, and the command line ended in a traceback."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    extras = setup["options.extras_require"]
    needed = setup["options"]["install_requires"] + extras["remote"] + extras["server"]
    lines = needed.strip().split("\n")
    assert len(lines) > 20
    assert [line for line in lines if ">=" not in line.partition(";")[0]] == []
