"""The search box of notebooks, driven as its front end drives it, without a kernel."""

from __future__ import annotations

import re
import sys
from datetime import datetime, timezone

import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import MissingDependencyError, QueryError, pip_install


@pytest.fixture
def box(index, word):
    """A box that shows the first page of a search by a word."""
    return index.browse(word, k=3)


def press_enter(box):
    box.words._handle_custom_msg({"event": "submit"}, [])


def click(button):
    button._handle_button_msg(None, {"event": "click"}, [])


def shown(widget):
    return widget.layout.display != "none"


def uploaded(content):
    """What the front end sends of a file."""
    data = {"size": len(content), "content": memoryview(content)}
    modified = datetime(2026, 1, 31, tzinfo=timezone.utc)
    return {"name": "picture", "type": "image/png", "last_modified": modified, **data}


def ranks(box):
    return [hit.rank for hit in box.hits]


def test_an_empty_box_shows_nothing_and_asks(index):
    box = index.browse()
    assert "application/vnd.jupyter.widget-view+json" in box._repr_mimebundle_()
    assert repr(box).startswith("SearchBox(ImageIndex(")
    assert box.hits is None
    assert not shown(box.back)
    assert not shown(box.place)
    press_enter(box)
    assert 'role="alert"' in box.message.value
    assert "What to search for?" in box.message.value


def test_words_and_enter(index, word):
    box = index.browse(k=3)
    box.words.value = word
    assert box.hits is None  # not at each key
    press_enter(box)
    assert box.hits.uris == index.search(text=word, k=3).uris
    assert len(box.results.cells) == 3
    assert box.hits[0].filename in box.results.cells[0].card.value
    assert word.replace("_", " ") in box.head.value


def test_completion_while_typing(index):
    box = index.browse()
    box.words.value = "sofa tabb"
    assert box.words.options[0] == "sofa tabby"
    box.words.value = ""
    assert box.words.options == ()


def test_completion_before_there_is_an_index(fake_model, tmp_path):
    box = ImageIndex(tmp_path / "none.duckdb", model="fake").browse()
    box.words.value = "tabb"
    assert "tabby" in box.words.options
    press_enter(box)
    assert "none.duckdb" in box.message.value


def test_a_mistake_is_one_line_and_what_is_shown_stays(box):
    before = box.hits
    box.words.value = "<b>xyzzy</b>"
    press_enter(box)
    assert box.hits is before
    assert "&lt;b&gt;" in box.message.value
    assert "<b>" not in box.message.value
    assert not box.search_button.disabled


def test_like_dislike_refine_and_back(box):
    before = box.hits
    assert not shown(box.refine_button)
    first, second, _ = box.results.cells
    first.like.value = True
    second.dislike.value = True
    assert shown(box.refine_button)
    assert box.refine_button.description == "Refine: 1 liked, 1 disliked"
    click(box.refine_button)
    assert box.hits.uris == before.refine([0], [1]).uris
    assert box.hits.query.roles == ("like", "dislike")
    assert not shown(box.refine_button)
    click(box.back)
    assert box.hits is before
    assert not shown(box.back)
    cell = box.results.cells[0]  # not liked and disliked
    cell.like.value = True
    cell.dislike.value = True
    assert (box.results.liked, box.results.disliked) == ([], [0])
    assert (cell.like.button_style, cell.dislike.button_style) == ("", "danger")
    cell.dislike.value = False
    assert not shown(box.refine_button)


def test_pages(box):
    total = box.hits.ranked
    assert total > 3
    assert box.previous.disabled
    assert box.place.value == f"1 to 3 of {total}"
    cell = box.results.cells[0]
    click(box.next)
    assert ranks(box) == [4, 5, 6]
    assert cell.like.comm is None  # old widgets are closed
    click(box.previous)
    assert ranks(box) == [1, 2, 3]
    while not box.next.disabled:
        click(box.next)
    assert ranks(box)[-1] == total


def test_more_like_it_and_without_the_picture(index, box, word):
    wanted = box.hits[1]
    click(box.results.cells[1].more)
    assert box.hits.uris == index.search(image=wanted.id, k=3).uris
    assert box.words.value == ""
    assert shown(box.no_picture)
    click(box.back)  # the words are in the box again, and the picture is not
    assert box.words.value == word
    assert not shown(box.no_picture)
    click(box.results.cells[1].more)
    click(box.no_picture)
    assert not shown(box.no_picture)


def test_the_strategy_changes_the_answer(index, box, word):
    box.strategy.value = "cosine"
    assert box.hits.query.strategy == "cosine"
    assert box.hits.uris == index.search(text=word, k=3, strategy="cosine").uris
    box.strategy.value = "dense-cosine"
    assert "words have no deep feature" in box.message.value
    assert box.hits.query.strategy == "cosine"
    box.strategy.value = "cosine"
    assert box.message.value == ""
    click(box.back)
    assert box.strategy.value == box.hits.query.strategy == "auto"
    assert not shown(box.back)


def test_an_uploaded_picture(index, box, cat):
    box.words.value = ""
    box.upload.value = (uploaded(cat.read_bytes()),)
    assert box.hits.uris == index.search(image=cat.read_bytes(), k=3).uris
    box.upload.value = (uploaded(b"no picture"),)
    assert "role=" in box.message.value
    click(box.search_button)  # the broken one was not kept
    assert box.message.value == ""
    assert box.hits.uris == index.search(image=cat.read_bytes(), k=3).uris


def test_facets_narrow_and_widen(index, word):
    box = index.browse(word)
    names = [getattr(each, "description", "") for each in box.narrowing.facets.children]
    (cats,) = (i for i, name in enumerate(names) if name.startswith("cats ("))
    total = box.hits.ranked
    click(box.narrowing.facets.children[cats])
    assert {hit.labels for hit in box.hits} == {("cats",)}
    assert names[cats] == f"cats ({box.hits.total})"
    (condition,) = box.narrowing.conditions.children
    assert condition.description == "label:cats"
    click(condition)
    assert box.hits.ranked == total
    assert box.narrowing.conditions.children == ()


def test_nothing_found(index, word):
    box = index.browse(f"{word} label:nowhere")
    assert "No picture matches" in box.message.value
    assert box.place.value == ""


def test_options_that_make_no_sense(index):
    with pytest.raises(QueryError, match="no strategy 'magic'"):
        index.browse(strategy="magic")
    with pytest.raises(QueryError, match="1 to 100 hits"):
        index.browse(k=0)


def test_without_ipywidgets_the_error_says_what_to_install(index, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.delitem(sys.modules, "imgsearch_es.interfaces.notebook.search_box", raising=False)
    with pytest.raises(MissingDependencyError, match=re.escape(pip_install("widgets"))):
        index.browse()
