"""``%imgsearch`` in an IPython shell without a terminal."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from imgsearch_es import Hits
from imgsearch_es.interfaces.notebook.search_box import SearchBox


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A shell that has loaded the extension, and writes nothing to the home folder."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("IMGSEARCH_INDEX", raising=False)
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    shell.run_line_magic("load_ext", "imgsearch_es")
    yield shell
    shell.run_line_magic("unload_ext", "imgsearch_es")


@pytest.fixture
def search(shell):
    return lambda line: shell.run_line_magic("imgsearch", line)


def complete(shell, line):
    magics = shell.magics_manager.registry["ImgsearchMagics"]
    return magics.complete(shell, SimpleNamespace(line=line))


def test_the_variable_index_is_searched(shell, search, index, word):
    shell.user_ns["index"] = index
    hits = search(f'"{word}" -k 3')
    assert isinstance(hits, Hits)
    assert hits.uris == index.search(text=word, k=3).uris


def test_options(shell, search, index, word, cat):
    shell.user_ns.update(pets=index, photo=cat)
    hits = search(f"--index pets --image photo {word} --strategy cosine --offset 1 -k 2")
    asked = {"image": cat, "text": word, "strategy": "cosine", "offset": 1, "k": 2}
    assert hits.uris == index.search(**asked).uris
    assert search(f"-i pets --image '{cat}' --exclude-self")[0].uri != str(cat)
    assert search(f"{word} -k 2 -i pets format:png").query.filters  # words may come last, too
    found = search(f"{word} -kite -k2 -zebra -i pets").query.filters
    assert [one.field for one in found if one.negated] == ["score(kite)", "score(zebra)"]


def test_a_location_stays_open_until_the_extension_is_unloaded(shell, search, index, word):
    index.close()
    assert len(search(f"{word} --index {index.location}"))
    magics = shell.magics_manager.registry["ImgsearchMagics"]
    (opened,) = magics._opened.values()
    search(f"{word} --index {index.location}")
    assert list(magics._opened.values()) == [opened]
    shell.run_line_magic("unload_ext", "imgsearch_es")
    assert not magics._opened
    assert "imgsearch" not in shell.magics_manager.magics["line"]
    shell.run_line_magic("load_ext", "imgsearch_es")


def test_a_cell_is_a_query_as_it_is(shell, index, word):
    shell.user_ns["index"] = index
    cell = f'"{word.replace("_", " ")}"\n-zebra format:png -label:"two  spaces"\n'
    hits = shell.run_cell_magic("imgsearch", "-k 4", cell)
    assert hits.query.filters[0].either[0].field == "score(zebra)"
    assert '"two  spaces"' in str(hits.query)
    assert len(hits) <= 4


def test_browsing(shell, search, index, word):
    shell.user_ns["index"] = index
    box = search(f"{word} --browse -k 2 --strategy cosine")
    assert isinstance(box, SearchBox)
    assert box.hits.uris == index.search(text=word, k=2, strategy="cosine").uris


def test_a_mistake_is_one_line_and_no_traceback(shell, index, cat, capsys):
    shell.user_ns.update(index=index, photo=cat)
    for line, why in (
        ("", "what to search for"),
        ("cat -k three", "invalid int value: 'three'"),
        ('"tabby cat', "no closing quotation"),
        ("cat --colour red", "unrecognized arguments: --colour"),
        ("cat --index photo", "the variable photo holds PosixPath"),
        ("--image nowhere.jpg", "nowhere.jpg"),
    ):
        with pytest.raises(UsageError, match=why):
            shell.run_line_magic("imgsearch", line)
        assert not shell.run_cell(f"%imgsearch {line}").success
        printed = "".join(capsys.readouterr())
        assert printed.startswith("UsageError: ")
        assert "Traceback" not in printed
        assert len(printed.splitlines()) == 1


def test_the_environment_names_the_index(search, index, word, monkeypatch):
    with pytest.raises(UsageError, match="which index"):
        search(word)
    index.close()
    monkeypatch.setenv("IMGSEARCH_INDEX", index.location)
    assert len(search(word))
    for folder in ("empty", ""):  # what is named may change
        place = Path(index.location).parent / folder
        place.mkdir(exist_ok=True)
        monkeypatch.chdir(place)
        monkeypatch.setenv("IMGSEARCH_INDEX", Path(index.location).name)
        if folder:
            with pytest.raises(UsageError, match="there is no index"):
                search(word)
    assert len(search(word))


def test_help(shell):
    text = shell.find_line_magic("imgsearch").__doc__
    assert "--strategy" in text
    assert "Search an index of pictures" in text


@pytest.mark.parametrize("line", ["--help", "tabby cat -h"])
def test_help_is_printed(search, capsys, line):
    assert search(line) is None
    assert "--strategy STRATEGY" in capsys.readouterr().out


def test_completion(shell, index):
    assert complete(shell, "%imgsearch tabb")[0] == "tabby"  # without an index, too
    shell.user_ns["index"] = index
    assert complete(shell, "%imgsearch --str") == ["--strategy"]
    assert complete(shell, "%imgsearch cat --strategy dense-c") == ["dense-cosine", "dense-chi2"]
    assert complete(shell, "%imgsearch tabb")[0] == "tabby"
    assert complete(shell, '%imgsearch "golden re')[0] == 'retriever"'
    assert complete(shell, "%imgsearch sofa golden ret")[0] == "retriever"
    assert complete(shell, "%imgsearch ") == []


def test_the_shell_asks_for_it(shell):
    line = "%imgsearch sofa tabb"
    with provisionalcompleter():
        found = [each.text for each in shell.Completer.completions(line, len(line))]
    assert "tabby" in found
