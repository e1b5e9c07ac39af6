from __future__ import annotations

import base64
import hashlib
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.filters import Box
from imgsearch_es.errors import ConfigurationError, ImageError, MissingDependencyError
from imgsearch_es.interfaces import gallery, plots
from imgsearch_es.interfaces.gallery import gallery_html
from imgsearch_es.pictures import turns
from imgsearch_es.pictures.photo import Photo
from imgsearch_es.pictures.thumbnails import embed, kept_thumbnail, thumbnail
from imgsearch_es.pictures.turns import Turns
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.facets import Facets
from imgsearch_es.retrieval.scoring import Summand

TEMPLATES = Path(gallery.__file__).parent / "templates"
CSS = (TEMPLATES / "gallery.css").read_text(encoding="utf-8")
SCRIPT = gallery.script()
VOID = {"img", "meta"}


@dataclass(frozen=True)
class Hit:
    rank: int
    score: float
    uri: str
    filename: str
    synsets: tuple[Term, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def document(self) -> Document:
        given = ("0" * 32, self.uri, self.filename, "0" * 64, 400, 300, 2048, "JPEG")
        taken = Photo(taken_at=datetime(2024, 5, 1, 9, 30), place=(35.65, 139.74))
        when = datetime(2026, 1, 1, tzinfo=timezone.utc)
        return Document(*given, when, self.synsets, self.labels, photo=taken)


@dataclass(frozen=True)
class Query:
    text: str | None = "tabby cat"
    pictures: tuple[str | Image.Image, ...] = ()
    terms: tuple[Term, ...] = (Term("tabby", 0.5),)
    roles: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    counts: None = None
    strategy: str = "script"
    sort: None = None
    fusion: None = None

    def __str__(self) -> str:
        return f"words: {self.text}" if self.text else ""


@dataclass(frozen=True)
class Hits:
    results: tuple[Hit, ...] = ()
    query: Query = field(default_factory=Query)
    total: int = 300
    strategy: str = "script"
    exact: bool = True
    took_ms: float = 6.32
    total_is_exact: bool = True

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.results)

    @property
    def asked(self) -> tuple[Term, ...]:
        return self.query.terms

    def explain_all(self) -> list[Explanation]:
        return [self.explain(i) for i in range(len(self))]

    def explain(self, i: int) -> Explanation:
        weights = {term.key: term.score for term in self.query.terms}
        shared = [term for term in self.results[i].synsets if term.key in weights]
        return Explanation(*((term.key, weights[term.key], term.score) for term in shared))


class Explanation:
    def __init__(self, *rows: tuple[str, float, float]) -> None:
        self.rows = [Summand(key, weight, score, weight * score) for key, weight, score in rows]
        self.part_rows: dict[str, tuple[Summand, ...]] = {}
        self.total = sum(row[3] for row in self.rows)
        self.boxes: dict[str, Box] = {}


def explained(explanation: Explanation) -> Hits:
    """A hit whose score has such an explanation."""

    class Explained(Hits):
        def explain(self, i: int) -> Explanation:
            return explanation

    return Explained((hit("/a", synsets=(Term("tabby", 0.61),)),))


class Element:
    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name, self.attributes, self.text = name, attributes, ""

    def __getitem__(self, attribute: str) -> str:
        return self.attributes.get(attribute, "")


class Page(HTMLParser):
    """The elements of a page, each with the text inside; every element must be closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {key: value or "" for key, value in attrs})
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, name: str, css: str | None = None) -> list[Element]:
        found = [element for element in self.elements if element.name == name]
        return [e for e in found if css in e["class"].split()] if css else found

    def one(self, name: str, css: str | None = None) -> Element:
        (element,) = self.all(name, css)
        return element


def hit(uri: str, rank: int = 1, score: float = 0.4, **more: object) -> Hit:
    return Hit(rank, score, uri, uri.rpartition("/")[2], **more)  # type: ignore[arg-type]


@pytest.fixture
def photo(tmp_path) -> str:
    path = tmp_path / "cat.jpg"
    Image.effect_noise((400, 300), 60).convert("RGB").save(path)
    return str(path)


def decode(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def body(source: str) -> str:
    """What follows the style sheet."""
    return source.rpartition("</style>")[2]


def embedded(page: Page) -> list[str]:
    return [image["src"] for image in page.all("img")]


class TestResults:
    def test_a_card_shows_picture_rank_score_name_labels_and_terms(self, photo):
        terms = (Term("tabby", 0.61), Term("tiger_cat", 0.2))
        page = Page(gallery_html(Hits((hit(photo, synsets=terms, labels=("pet", "indoor")),))))
        picture = page.one("img")
        assert picture["alt"] == "cat.jpg: tabby"
        prefix = "data:image/jpeg;base64,"
        assert picture["src"].startswith(prefix)
        assert decode(base64.b64decode(picture["src"].removeprefix(prefix))).size == (288, 216)
        assert page.one("span", "ig-rank").text == "1"
        assert page.one("span", "ig-score").text == "0.400"
        assert page.all("bdi")[0].text == "cat.jpg"
        assert page.one("div", "ig-labels").text == "pet, indoor"
        assert page.all("ul", "ig-terms")[1].text == "tabby 0.61tiger cat 0.20"
        name = page.one("div", "ig-name")  # selecting it selects the URI
        assert name.text == name["title"] == photo

    def test_a_path_is_copied_as_it_is(self):
        """What is replaced for the eye is not in the copy; a URI is not cut to the name."""
        for uri in ("/a/b\u202e\x07.jpg", "file:///a/b%0A.jpg"):
            page = Page(gallery_html(Hits((hit(uri),))))
            assert page.one("div", "ig-name")["data-uri"] == uri

    def test_a_shared_term_is_marked_and_explains_its_product(self):
        terms = (Term("tabby", 0.61), Term("sofa", 0.2))
        page = Page(gallery_html(Hits((hit("/gone.jpg", synsets=terms),))))
        (other,) = [li for li in page.all("li") if li.text == "sofa 0.20"]
        assert len(page.all("ul", "ig-terms")) == 2
        tips = [li["title"] for li in page.all("li", "ig-shared")]
        assert tips == ["tabby: weight 0.500", "tabby: 0.500 × 0.610 = 0.305 (query × picture)"]
        assert [mark.text for mark in page.all("mark")] == ["tabby", "tabby"]
        assert (other.text, other["title"], other["class"]) == ("sofa 0.20", "sofa: 0.200", "")

    def test_a_part_that_is_no_product_is_shown_as_it_is(self):
        other = Explanation()
        other.rows = [Summand("tabby", 3.2, 0.61, 1.75)]
        page = Page(gallery_html(explained(other)))
        assert page.all("li", "ig-shared")[-1]["title"] == "tabby: adds 1.750"

    def test_terms_that_make_the_score_are_preferred_after_the_best_one(self):
        others = (Term(f"term_{i}", 0.5 - i / 100) for i in range(9))
        terms = (*others, Term("tabby", 0.01))
        page = Page(gallery_html(Hits((hit("/gone.jpg", synsets=terms),))))
        chips = page.all("ul", "ig-terms")[1].text
        assert chips == "term 0 0.50term 1 0.49term 2 0.48tabby 0.01"

    @pytest.mark.parametrize(
        ("strategy", "widths"),
        [
            ("script", ["100.0", "50.0", "0.0", "0.0", "0.0"]),  # of the heaviest weight, 0.5
            ("dense-cosine", ["80.0", "25.0", "0.0", "0.0", "0.0"]),  # of 1
            ("bm25", ["100.0", "31.2", "0.0", "0.0", "0.0"]),  # which has no most: of the best
        ],
    )
    def test_bars_are_relative_to_the_most_that_a_score_can_be(self, strategy, widths):
        scores = (0.8, 0.25, 0.0, -1.0, float("nan"))
        hits = tuple(hit("/x", i, score) for i, score in enumerate(scores, 1))
        shown = body(gallery_html(Hits(hits, Query(strategy=strategy))))
        assert re.findall(r'style="width: ([\d.]+)%"', shown) == widths

    def test_columns_and_widths_say_how_high_rows_are(self):
        assert "(100% - 42px) / 3" in gallery_html(Hits((hit("/x"),)), columns=3)
        small = gallery_html(Hits((hit("/x"),)), thumbnail=150)
        assert "--row: calc(min(150px, 45% - 8px) / 1.35)" in small
        for options in ({"columns": 0}, {"thumbnail": 0}, {"max_bytes": -1}):
            with pytest.raises(ConfigurationError, match="at least"):
                gallery_html(Hits(), **options)  # type: ignore[arg-type]

    def test_no_results(self):
        page = Page(gallery_html(Hits(total=0)))
        assert "No picture matches this query." in page.one("p", "ig-empty").text
        assert not page.all("ol")


class TestQuery:
    def test_words_terms_and_summary(self):
        page = Page(gallery_html(Hits((hit("/x"),), total=3000)))
        assert page.one("p", "ig-words").text == "tabby cat"
        assert page.all("ul", "ig-terms")[0].text == "tabby 0.50"
        summary = page.one("p", "ig-summary").text
        assert summary == "1 of 3,000 matches · script · exact · 6.3 ms"
        slow = gallery_html(Hits(total=1, exact=False, took_ms=12345.6))
        assert "0 of 1 match · script · approximate · 12,346 ms" in slow

    def test_pictures_come_first(self, photo):
        memory = Image.new("RGB", (30, 20), "red")
        query = Query(text=None, pictures=(photo, memory))
        page = Page(gallery_html(Hits((hit(photo),), query)))
        alts = [image["alt"] for image in page.all("img")]
        assert alts == ["Query picture cat.jpg", "Query picture", "cat.jpg"]
        assert page.one("p", "ig-words").text == "tabby"  # no words: its synsets name it

    def test_many_or_negligible_terms_are_counted(self):
        many = Query(terms=tuple(Term(f"breed_{i}", 1.0) for i in range(118)))
        assert "+110 more" in gallery_html(Hits(query=many))
        skewed = Query(terms=(Term("tabby", 0.9), Term("lynx", 0.0089)))
        chips = Page(gallery_html(Hits(query=skewed))).one("ul", "ig-terms")
        assert chips.text == "tabby 0.90+1 more"


class TestExplanations:
    def test_opens_on_a_click_and_adds_up(self):
        query = Query(terms=(Term("tabby", 0.5), Term("tiger_cat", 0.2)))
        terms = (Term("tabby", 0.61), Term("tiger_cat", 0.2))
        page = Page(gallery_html(Hits((hit("/a/cat.jpg", synsets=terms),), query)))
        button = page.one("button", "ig-copy")  # without the script there is the name to select
        assert ("hidden" in button.attributes, button["type"]) == (True, "button")
        assert button.text == "Copy path of cat.jpg"
        assert ".ig-copy[hidden] { display: none; }" in CSS
        assert "user-select: all" in CSS
        details = page.one("details", "ig-explain")
        assert "open" not in details.attributes
        assert page.one("summary").text == "Explain cat.jpg"  # the name for screen readers
        text = " ".join(details.text.split())
        assert "Why it is here: 0.345 is the sum of tabby0.3050.500 × 0.610" in text
        assert "What is seen in it tabby0.610tiger cat0.200" in text
        assert "Taken2024-05-01 09:30" in text
        assert "Place35.65000, 139.74000" in text
        assert "Size400 × 300 pixels, 2 KB JPEG" in text
        assert text.endswith("Path/a/cat.jpg")

    def test_small_and_many_summands_are_added_up(self):
        small = [(f"term_{i}", 1.0, 1e-5) for i in range(30)]
        page = Page(gallery_html(explained(Explanation(("tabby", 1.0, 0.5), *small))))
        assert page.one("ul", "why").text == "tabby0.5001.000 × 0.50030 more3.0e-04"
        many = Explanation(*((f"term_{i}", 1.0, 0.5) for i in range(100)))
        text = Page(gallery_html(explained(many))).one("ul", "why").text
        assert text.count("×") == 20
        assert text.endswith("80 more40.00")

    def test_what_speaks_against_is_marked(self):
        page = Page(gallery_html(explained(Explanation(("tabby", 1.0, 0.5), ("lynx", -0.5, 0.5)))))
        assert page.one("b", "against").text == "−0.250"

    def test_the_parts_of_a_fusion_have_their_synsets_below(self):
        fused = Explanation(("image", 1.0, 0.3), ("dense-cosine", 2.0, 0.9))
        fused.part_rows = {"image": (Summand("tabby", 0.5, 0.6, 0.3),)}
        text = Page(gallery_html(explained(fused))).one("ul", "why").text
        assert text == (
            "image0.3001.000 × 0.300tabby0.3000.500 × 0.600dense-cosine1.8002.000 × 0.900"
        )


class TestFacets:
    FACETS: ClassVar[Facets] = {
        "label": [{"value": "cats", "count": 7}, {"value": "big dogs", "count": 1}],
        "top_synset": [{"value": "tiger_cat", "count": 4}, {"value": "lynx", "count": 4}],
        "width": [{"value": "<256", "count": 3}, {"value": "256-511", "count": 5}],
        "metadata.camera": [{"value": "X100", "count": 4}, {"value": "M6", "count": 4}],
        "format": [{"value": "JPEG", "count": 8}],
    }

    def test_values_counts_and_conditions(self):
        page = Page(gallery_html(Hits((hit("/a"),), total=8), facets=self.FACETS))
        panel = page.one("section", "ig-facets")
        assert panel["aria-label"] == "Facets: All 8 matches"
        heads = [e.text for e in page.all("summary")][1:]
        assert heads == ["Label", "Best synset", "Width in pixels", "camera"]
        tips = [e["title"].partition("In a query: ")[2] for e in page.all("li")]
        assert list(filter(None, tips)) == [
            "label:cats", 'label:"big dogs"', "top_synset:tiger_cat", "top_synset:lynx",
            "width:<256", "width:>=256 width:<512", "metadata.camera:X100", "metadata.camera:M6",
        ]  # fmt: skip
        assert "cats 7big dogs 1" in panel.text
        assert "tiger cat 4" in panel.text

    def test_what_does_not_tell_pictures_apart_is_left_out(self):
        facets = {"format": self.FACETS["format"], "label": []}
        assert "ig-facets" not in body(gallery_html(Hits((hit("/a"),)), facets=facets))
        assert "ig-facets" not in body(gallery_html(Hits((hit("/a"),))))
        assert "ig-facets" not in body(gallery_html(Hits(total=0), facets=self.FACETS))


class TestUnreadablePictures:
    def test_the_reason_is_shown_and_nothing_raised(self, tmp_path, photo):
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"not a picture")
        gone = str(tmp_path / "gone.jpg")
        closed = Image.open(photo)
        closed.close()
        hits = Hits((hit(gone), hit(str(broken), 2)), Query(pictures=(closed, gone)))
        page = Page(gallery_html(hits, standalone=True))
        frames = page.all("div", "ig-missing")
        assert len(frames) == 4
        for frame in frames:
            assert frame["title"]
            assert frame.text == f"Not shown {frame['title']}"
            assert str(tmp_path) not in frame.text
        assert "no such file" in frames[2].text


class TestBytes:
    def test_smaller_first_then_the_last_are_left_out(self, photo):
        hits = Hits(tuple(hit(photo, rank) for rank in range(1, 9)))
        for limit in (0, 1_000, 20_000, 60_000, 150_000):
            page = Page(gallery_html(hits, max_bytes=limit))
            assert sum(map(len, embedded(page))) <= limit
            assert len(embedded(page)) + len(page.all("div", "ig-missing")) == 8
        large = embedded(Page(gallery_html(hits)))
        small = embedded(Page(gallery_html(hits, max_bytes=sum(map(len, large)) // 2)))
        assert len(small) == len(large) == 8
        assert len(small[0]) < len(large[0])
        smallest = len(base64.b64encode(thumbnail(photo, round(0.45 * 192), quality=50)))
        page = Page(gallery_html(hits, max_bytes=round(3.5 * smallest)))
        frames = page.all("div", "ig-frame")
        assert ["limited to" in frame.text for frame in frames] == [False] * 3 + [True] * 5


class TestSafety:
    TEXTS = st.text(st.characters(), max_size=40)

    @given(TEXTS, TEXTS, TEXTS, st.booleans())
    def test_text_never_becomes_markup(self, name, words, key, page):
        def build(name: str, words: str, key: str) -> str:
            hits = Hits(
                (Hit(1, 0.5, f"s3://b/{name}", name, (Term(key, 0.4),), (words,)),),
                Query(words, terms=(Term(key, 1.0),)),
            )
            facets: Facets = {
                field: [{"value": value, "count": 2}, {"value": f"{value}2", "count": 1}]
                for field, value in (("label", words), ("top_synset", key), ("metadata.x", name))
            }
            return gallery_html(hits, standalone=page, facets=facets)

        def shape(source: str) -> list[tuple[str, list[str]]]:
            return [(e.name, sorted(e.attributes)) for e in Page(source).elements]

        name, words, key = name + ".", words + ".", key + "."
        source = build(name, words, key)
        source.encode("utf-8")
        assert shape(source) == shape(build("a", "b", "c"))

    def test_hostile_names_are_shown_as_text(self):
        name = "<script>alert(1)</script>\n\"'&\u202egpj.exe \U0001f408 مرحبا"
        source = gallery_html(Hits((hit(f"/x/{name}".replace("</", "<")),)), standalone=True)
        assert source.count("<script") == 1  # our own, which copies paths
        page = Page(source)
        shown = page.all("bdi")[0].text
        assert "alert(1)" in shown
        assert "␊\"'&\ufffdgpj.exe \U0001f408 مرحبا" in shown

    def test_nothing_is_loaded_and_nothing_runs(self, photo):
        hits = Hits((hit(photo),), Query(pictures=(photo,)))
        fragment = Page(gallery_html(hits))
        assert fragment.elements[0].name == "section"
        assert {e.name for e in fragment.elements}.isdisjoint({"link", "iframe", "a", "form"})
        for element in Page(gallery_html(hits, standalone=True)).elements:
            assert element["src"][:5] in ("", "data:")
            assert not [key for key in element.attributes if key.startswith("on")]
        assert not re.search(r"url\(|@import|</|expression", CSS)

    def test_the_only_script_is_constant_and_the_only_one_admitted(self, photo):
        source = gallery_html(Hits((hit(photo),)), standalone=True)
        assert source.count("<script") == 1
        assert f"<script>{SCRIPT}</script>" in source
        digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
        (policy,) = [
            m["content"] for m in Page(source).all("meta") if "default-src" in m["content"]
        ]
        assert policy == (
            "default-src 'none'; img-src data: file:; style-src 'unsafe-inline'; "
            f"script-src 'sha256-{digest}'"
        )
        assert not re.search(r"</|innerHTML|eval|fetch|https?:", SCRIPT)

    def test_links_of_a_page(self, monkeypatch):
        refuse = mock.Mock(side_effect=ImageError("it", "not here"))
        monkeypatch.setattr("imgsearch_es.pictures.thumbnails.open_image", refuse)
        uris = (
            "/a/b c#?.jpg", "file:///a/%ff.jpg", "https://example.org/a.jpg?x=1&y=2",
            "s3://bucket/a.jpg", "javascript:alert(1)", "data:text/html,x",
        )  # fmt: skip
        links = Page(gallery_html(Hits(tuple(map(hit, uris))), standalone=True)).all("a")
        assert [a["href"] for a in links] == ["file:///a/b%20c%23%3F.jpg", *uris[1:3]]


class TestPage:
    def test_standalone(self):
        source = gallery_html(Hits((hit("/x"),)), standalone=True)
        page = Page(source)
        assert source.startswith("<!doctype html>")
        assert page.one("title").text == "tabby cat – imgsearch"
        assert page.one("h1").text == "tabby cat"
        assert {"charset": "utf-8"} in [meta.attributes for meta in page.all("meta")]
        assert "viewport" in [meta["name"] for meta in page.all("meta")]
        # a heading of a fragment would enter the notebook's outline
        assert not re.search(r"<h\d", gallery_html(Hits((hit("/x"),))))

    def test_every_rule_is_scoped(self):
        # the page's rules are nested
        assert ".imgsearch-gallery {\n/* Of the page" in gallery.style()
        plain = re.sub(r"/\*.*?\*/", "", CSS, flags=re.DOTALL)
        plain = re.sub(r"@(?:media|container)[^{]*{(.*?})\s*}", r"\1", plain, flags=re.DOTALL)
        for selectors in re.findall(r"([^{}]+){[^}]*}", plain):
            for selector in re.split(r",(?![^(]*\))", selectors):
                assert ".imgsearch-gallery" in selector

    def test_contrast_is_at_least_aa(self):
        def luminance(name: str, scheme: int) -> float:
            colors = re.search(rf"--ig-{name}:.*?light-dark\((#\w+), (#\w+)\)", CSS)
            assert colors
            channels = [c / 255 for c in bytes.fromhex(colors[1 + scheme][1:])]
            linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        pairs = "ink paper, quiet paper, quiet chip, quiet frame, shared-ink shared"
        for pair in pairs.split(", "):
            for scheme in (0, 1):  # light and dark
                dark, light = sorted(luminance(name, scheme) for name in pair.split())
                assert (light + 0.05) / (dark + 0.05) >= 4.5, pair


class TestThumbnail:
    def test_the_longer_side_is_made_smaller_only(self, photo):
        small = decode(thumbnail(photo, 64))
        assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (64, 48))
        image = Image.new("RGB", (8, 6))
        assert decode(thumbnail(image, 64)).size == (8, 6)
        thumbnail(image, 2)
        assert image.size == (8, 6)  # the picture given stays as it was

    def test_large_pictures_wait_for_one_another(self, photo, monkeypatch):
        taken = []

        class Recording(Turns):
            def take(self, pixels):
                taken.append(pixels)
                return super().take(pixels)

        monkeypatch.setattr(turns, "TURNS", Recording(1))
        assert all(thumb.data for thumb in embed([photo] * 3, 64, 1 << 20))
        assert kept_thumbnail(photo, 64)
        width, height = decode(thumbnail(photo, 1 << 20)).size
        assert taken == [width * height] * 5

    def test_upright(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by a quarter
        path = tmp_path / "turned.jpg"
        Image.new("RGB", (40, 20)).save(path, exif=exif)
        assert decode(thumbnail(str(path), 40)).size == (20, 40)

    def test_transparent_on_white(self, tmp_path):
        image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
        image.save(tmp_path / "clear.png")
        for source in (image, str(tmp_path / "clear.png")):
            assert decode(thumbnail(source)).getpixel((10, 10)) == (255, 255, 255)
        with pytest.raises(ImageError):
            thumbnail(str(tmp_path / "gone.jpg"))


class TestPlots:
    def test_query_on_top_then_scores(self, photo):
        from matplotlib import pyplot

        results = tuple(hit(photo, i, 1 / i) for i in range(1, 7))
        hits = Hits((*results, hit("/gone.jpg", 7, 0.1)), Query(text="$5", pictures=(photo,)))
        figure = plots.plot(hits)
        titles = [axes.get_title() for axes in figure.axes]
        assert titles == ["query", "1.000", "0.500", "0.333", "0.250", "0.200", "0.167", "0.100"]
        rows = [axes.get_subplotspec().rowspan.start for axes in figure.axes]
        assert rows == [0, 1, 1, 1, 1, 1, 2, 2]
        assert figure.get_suptitle() == "$5"
        assert "Not shown" in figure.axes[-1].texts[0].get_text()
        assert figure._repr_png_().startswith(b"\x89PNG")
        assert pyplot.get_fignums() == []

    def test_no_results_and_no_columns(self):
        assert plots.plot(Hits()).get_supxlabel() == "No picture matches this query."
        with pytest.raises(ConfigurationError):
            plots.plot(Hits(), columns=0)

    def test_explanation(self, tmp_path):
        figure = plots.plot_explanation(Explanation(("tiger_cat", 0.1, 0.2), ("$tabby$", 0.6, 0.5)))
        (axes,) = figure.axes
        assert [label.get_text() for label in axes.get_yticklabels()] == ["$tabby$", "tiger cat"]
        assert axes.texts[0].get_text() == "0.600 × 0.500 = 0.300"
        assert axes.get_title(loc="left") == "score 0.320"
        figure.savefig(tmp_path / "explanation.png")

    def test_the_rest_of_a_long_explanation_is_one_bar(self):
        explanation = Explanation(*((f"breed_{i}", 1.0, 0.01) for i in range(118)))
        (axes,) = plots.plot_explanation(explanation).axes
        assert axes.get_yticklabels()[-1].get_text() == "98 more"
        widths = [bar.get_width() for bar in axes.patches]
        assert sum(widths) == pytest.approx(explanation.total)
        (axes,) = plots.plot_explanation(Explanation()).axes
        assert (len(axes.patches), axes.get_title(loc="left")) == (0, "score 0")

    @pytest.mark.parametrize(
        ("call", "value"), [(plots.plot, Hits()), (plots.plot_explanation, Explanation())]
    )
    def test_without_matplotlib(self, call, value, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(MissingDependencyError, match=r"pip install .*\[notebook\]"):
            call(value)  # type: ignore[operator]
