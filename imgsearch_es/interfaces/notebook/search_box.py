"""The search box of ``index.browse()``: words, a picture, likes and dislikes, facets and pages.

What is shown is always the answer to one `Query`; every button makes a new one of it, so each step
can be taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import ipywidgets as widgets
from IPython.display import DisplayHandle, display
from markupsafe import Markup

from imgsearch_es.errors import ImgsearchError, QueryError
from imgsearch_es.index import ImageIndex
from imgsearch_es.interfaces.gallery import parts, query_head, style
from imgsearch_es.interfaces.html import title
from imgsearch_es.interfaces.notebook.parts import (
    CELL_PIXELS,
    LargeView,
    Narrowing,
    ResultGrid,
    button,
    buttons,
    set_visible,
)
from imgsearch_es.pictures.thumbnails import embed
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.strategies import MAX_RESULTS, STRATEGIES, strategy_of
from imgsearch_es.retrieval.tokens import complete
from imgsearch_es.search.hits import Hits
from imgsearch_es.vocabulary.synsets import imagenet

_PICTURE_PIXELS, _PICTURE_BYTES = 112, 400_000
_LEFT = ".imgsearch-left"


class Step(NamedTuple):
    """What is shown, and the words and the picture that were in the box then."""

    hits: Hits
    words: str
    picture: Any


class SearchBox:
    """A search box for notebooks; as the last line of a cell it shows itself.

    Attributes:
        widget: all of it, an ``ipywidgets.VBox``.
        words, strategy, upload, results: the parts that a program may read or set.
    """

    def __init__(
        self, index: ImageIndex, text: str = "", *, k: int = 12, strategy: str = "auto"
    ) -> None:
        if not 1 <= k <= 100:
            raise QueryError(f"a page has 1 to 100 hits, not {k}")
        self._index = index
        self._k = k
        self._picture: Any = None
        self._past: list[Step] = []
        self._step: Step | None = None
        self._shown: DisplayHandle | None = None
        self._left: dict[str, str] = {"text/html": "", "text/plain": ""}
        self._make_inputs(text, strategy_of(strategy).name)
        self._make_outputs()
        middle = widgets.Layout(display="flex", flex_flow="row wrap", grid_gap="24px")
        self.widget = widgets.VBox(
            [
                # What is left where widgets are not drawn is out of sight where they are.
                widgets.HTML(f"<style>{style()}{_LEFT} {{ display: none; }}</style>"),
                LargeView(),
                buttons([self.words, self.search_button, self.upload, self.strategy]),
                self.message,
                self.head,
                buttons([self.back, self.no_picture, self.refine_button, *self.teaching]),
                self.narrowing.conditions,
                widgets.Box([self.results.widget, self.narrowing.facets], layout=middle),
                buttons([self.previous, self.place, self.next]),
            ]
        )
        self._show()
        if text:
            self.search()

    @property
    def hits(self) -> Hits | None:
        """What is shown; None before the first search."""
        return self._step.hits if self._step else None

    def _make_inputs(self, text: str, strategy: str) -> None:
        self.words = widgets.Combobox(
            value=text,
            placeholder="tabby cat, dog -poodle, label:pets",
            ensure_option=False,
            tooltip="Words and conditions to search for",
            layout=widgets.Layout(flex="1 1 260px", width="auto"),
        )
        self.words.observe(lambda change: self._complete(), "value")
        self.words.on_msg(self._entered)
        self.search_button = button("Search", self.search, icon="search", style="primary")
        self.upload = widgets.FileUpload(accept="image/*", description="Picture")
        self.upload.observe(lambda change: self._uploaded(), "value")
        self.strategy = widgets.Dropdown(
            options=list(STRATEGIES),
            value=strategy,
            tooltip="How to score",
            layout=widgets.Layout(width="auto"),
        )
        self.strategy.observe(lambda change: self._search_again(), "value")

    def _make_outputs(self) -> None:
        self.message = widgets.HTML()
        self.head = widgets.HTML()
        self.back = button("Back", self.go_back, icon="arrow-left")
        self.no_picture = button("Without the picture", self._remove_picture, icon="times")
        self.refine_button = button("Refine", self.refine, icon="sliders", style="primary")
        self.new_word = widgets.Text(
            placeholder="a word for the liked",
            layout=widgets.Layout(width="170px"),
            tooltip="A word that the liked pictures show, and the disliked do not",
        )
        self.teach_button = button("Teach", self.teach, icon="graduation-cap")
        self.teaching = self.new_word, self.teach_button
        self.results = ResultGrid(self._show_marks, self.more_like)
        self.narrowing = Narrowing(self.narrow, self.widen)
        self.previous = button("Previous", lambda: self.turn(-1), icon="chevron-left")
        self.next = button("Next", lambda: self.turn(1), icon="chevron-right")
        self.place = widgets.Label()

    # -- what a person does --------------------------------------------------------------------

    def search(self) -> None:
        """Search for the words and the picture, by the strategy chosen."""
        self._search(self.words.value, self._picture)

    def refine(self) -> None:
        """Search closer to the liked hits and further from the disliked ones."""
        hits, liked, disliked = self.hits, self.results.liked, self.results.disliked
        if hits is not None:
            self._try(lambda: hits.refine(liked, disliked, k=self._k))

    def teach(self) -> None:
        """Teach the index the word by the liked hits, without the disliked ones, and search it."""
        hits, word = self.hits, self.new_word.value.strip()
        if hits is None or not word:
            self._say("Which word do the liked pictures show? Type it beside the button.")
            return
        liked, disliked = self.results.liked, self.results.disliked

        def taught() -> Hits:
            self._index.teach(word, [hits[i] for i in liked], [hits[i] for i in disliked])
            return self._index.search(text=named, k=self._k)

        named = f'"{word}"'
        self._try(taught, (named, None))

    def more_like(self, i: int) -> None:
        """Search by one of the hits, counted from 0, instead of words."""
        if self.hits is not None:
            self._search("", self.hits[i].id)

    def turn(self, pages: int) -> None:
        """Turn pages, forward or back."""
        step = pages * self._k
        self._change(lambda query: replace(query, offset=max(query.offset + step, 0)))

    def narrow(self, conditions: Sequence[Filter]) -> None:
        """Keep only what meets these, too."""
        self._filter(lambda known: [*known, *(each for each in conditions if each not in known)])

    def widen(self, condition: Filter) -> None:
        """Take a condition back."""
        self._filter(lambda known: [each for each in known if each != condition])

    def go_back(self) -> None:
        """Show again what was there before the last step."""
        if self._past:
            self._step = self._past.pop()
            self._show()

    # -- inside --------------------------------------------------------------------------------

    def _search(self, text: str, picture: Any) -> None:
        """Search for words and a picture; they stay in the box if that succeeds."""
        if not text.strip() and picture is None:
            self._say("What to search for? Type words, or give a picture.")
            return
        options = {"k": self._k, "strategy": self.strategy.value}
        words = text.strip() or None
        self._try(lambda: self._index.search(image=picture, text=words, **options), (text, picture))

    def _filter(self, change: Callable[[Sequence[Filter]], Sequence[Filter]]) -> None:
        self._change(lambda query: replace(query, filters=tuple(change(query.filters)), offset=0))

    def _change(self, change: Callable[[Query], Query]) -> None:
        if self.hits is not None:
            query = self.hits.query
            self._try(lambda: self._index.search_many([change(query)])[0])

    def _try(self, find: Callable[[], Hits], inputs: tuple[str, Any] | None = None) -> None:
        """Take a step; what is shown stays when it fails, with the reason above it."""
        self.search_button.disabled = True
        try:
            hits = find()
        except ImgsearchError as error:
            self._say(str(error))
            return
        finally:
            self.search_button.disabled = False
        if self._step:
            self._past.append(self._step)
        self._step = Step(hits, *(inputs or (self.words.value, self._picture)))
        self._show()

    def _show(self) -> None:
        hits = self.hits
        if self._step:
            self.words.value, self._picture = self._step.words, self._step.picture
            self.strategy.value = self._step.hits.query.strategy
        self.message.value = ""
        self.results.show(hits)
        if hits is not None:
            thumbs = embed(list(hits.query.pictures), _PICTURE_PIXELS, _PICTURE_BYTES)
            head = query_head(hits, thumbs)
            self.head.value = str(parts().part_of(head))
            self._leave(hits, head)
            if not len(hits):
                self._say("No picture matches. Try a broader word or fewer conditions.")
        self._show_marks()
        self.narrowing.show(hits)
        self._show_place()
        set_visible(self.back, bool(self._past))
        set_visible(self.no_picture, self._picture is not None)

    def _show_marks(self) -> None:
        liked, disliked = len(self.results.liked), len(self.results.disliked)
        self.refine_button.description = f"Refine: {liked} liked, {disliked} disliked"
        set_visible(self.refine_button, bool(liked or disliked))
        for each in self.teaching:
            set_visible(each, liked > 0)

    def _show_place(self) -> None:
        total = first = last = 0
        self.place.value = ""
        if self.hits:
            total, first, last = self.hits.ranked, self.hits[0].rank, self.hits[-1].rank
            more = "" if self.hits.ranked_is_exact else " or more"
            self.place.value = f"{first:,} to {last:,} of {total:,}{more}"
        self.previous.disabled = first <= 1
        self.next.disabled = last >= min(total, MAX_RESULTS - self._k)
        for each in (self.previous, self.place, self.next):
            set_visible(each, total > last or first > 1)

    def _complete(self) -> None:
        try:
            vocabulary = self._index.vocabulary
        except ImgsearchError:  # there is no index yet; the search will say so
            vocabulary = imagenet()
        self.words.options = complete(vocabulary, self.words.value)

    def _entered(self, widget: Any, content: Any, buffers: Any) -> None:
        if content.get("event") == "submit":
            self.search()

    def _uploaded(self) -> None:
        if self.upload.value:
            self._search(self.words.value, bytes(self.upload.value[0]["content"]))

    def _search_again(self) -> None:
        if self.hits is not None and self.hits.query.strategy != self.strategy.value:
            self.search()
        else:  # it is that of the hits again
            self.message.value = ""

    def _remove_picture(self) -> None:
        self._picture = None
        self.upload.value = ()
        set_visible(self.no_picture, False)
        if self.words.value.strip():
            self.search()

    def _say(self, sentence: str) -> None:
        self.message.value = str(parts().alert(sentence))

    def _leave(self, hits: Hits, head: Markup) -> None:
        """Have the gallery of these hits in the notebook's file, for what draws no widgets."""
        content = parts().gallery(head, self.results.cards, f"min({CELL_PIXELS}px, 45% - 8px)")
        gallery = parts().fragment(title(hits.query), style(), content)
        self._left = {"text/html": f'<div class="{_LEFT[1:]}">{gallery}</div>', "text/plain": ""}
        if self._shown is not None:
            self._shown.update(self._left, raw=True)

    def _ipython_display_(self) -> None:
        display(self.widget)
        self._shown = display(self._left, raw=True, display_id=True)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        return f"SearchBox({self._index!r})"
