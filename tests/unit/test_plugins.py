"""Parts by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import pytest

from imgsearch_es.analysis import plugins
from imgsearch_es.analysis.filters import TERM_FILTERS, Sqrt, create_term_filter
from imgsearch_es.analysis.plugins import entry_point, load_plugin, plugin_names
from imgsearch_es.errors import AnalyzerError


@pytest.fixture
def registered(monkeypatch):
    """Registers term filters for one test, as installed packages would."""

    def register(**values: str) -> None:
        found = dict(plugins._entry_points(TERM_FILTERS))
        found |= {name: EntryPoint(name, value, TERM_FILTERS) for name, value in values.items()}
        monkeypatch.setattr(plugins, "_entry_points", lambda group: found)
        load_plugin.cache_clear()

    yield register
    load_plugin.cache_clear()


def test_names_are_those_of_the_entry_points():
    assert plugin_names(TERM_FILTERS) == sorted(entry_points(group=TERM_FILTERS).names)


def test_a_built_in_is_loaded_by_its_entry_point():
    assert load_plugin(TERM_FILTERS, "sqrt") is Sqrt


def test_a_plug_in_is_used_like_a_built_in(registered):
    registered(root="imgsearch_es.analysis.filters:Sqrt")
    assert create_term_filter({"name": "root"}) == Sqrt()


def test_an_unknown_name_is_told_with_those_that_there_are():
    with pytest.raises(AnalyzerError) as caught:
        entry_point(TERM_FILTERS, "sqrtt")
    known = ", ".join(plugin_names(TERM_FILTERS))
    assert str(caught.value) == (
        f"there is no term filter 'sqrtt'. Did you mean 'sqrt'? Known are {known}."
    )


@pytest.mark.parametrize(
    "value", ["no_such_package_at_all:x", "imgsearch_es.analysis.filters:NoSuchThing"]
)
def test_a_plug_in_that_does_not_load_is_named(registered, value):
    registered(broken=value)
    with pytest.raises(AnalyzerError, match=r"plug-in 'broken' of .* does not load"):
        load_plugin(TERM_FILTERS, "broken")


def test_a_filter_that_is_no_dataclass_is_refused(registered):
    registered(function="math:sqrt")
    with pytest.raises(AnalyzerError, match="'function' is not a dataclass"):
        create_term_filter({"name": "function"})
