"""What a person does on the page, in a real Chromium."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from imgsearch_es.interfaces.server import view
from imgsearch_es.pictures.files import picture_id
from tests.browser.conftest import PHONE, Open
from tests.browser.test_accessibility import serious
from tests.serving import BEARER, TOKEN, Client

Ids = Callable[[Page], list[str]]


def settled(page: Page) -> None:
    """Wait until the page shows what was asked for."""
    expect(page.locator("#progress")).to_be_hidden()
    page.wait_for_load_state("networkidle")


def arrived(page: Page, url: str) -> None:
    """Wait for an address, and until the page shows what it asks for."""
    page.wait_for_url(url)
    settled(page)


def search(page: Page, words: str) -> None:
    page.fill("#q", words)
    page.press("#q", "Enter")
    arrived(page, "**/?*q=*")


def test_words_are_searched_for(open_page: Open, word: SimpleNamespace):
    page = open_page()
    expect(page.locator("#summary")).to_contain_text("All 76 pictures")
    search(page, word.query)
    expect(page).to_have_url(re.compile(r"/\?q=synset"))
    expect(page).to_have_title(f"{word.query} · imgsearch")
    expect(page.locator("#status")).to_contain_text("pictures")
    expect(page.locator(".card").first.locator(".chips .shared").first).to_be_visible()


def test_an_unknown_word_gets_suggestions(open_page: Open):
    page = open_page()
    search(page, "tabbi")
    expect(page.get_by_role("alert")).to_contain_text("No synset is named 'tabbi'")
    page.get_by_role("link", name="tabby", exact=True).click()
    page.wait_for_url("**/?q=tabby")


def test_a_picture_is_chosen_and_what_is_none_is_said_so(open_page: Open, photos: Path, tmp_path):
    page = open_page("/?by=dense-cosine")
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#file", tmp_path / "notes.txt")
    expect(page.locator("#toast")).to_contain_text("not a picture")
    expect(page).to_have_url(re.compile(r"/\?by=dense-cosine$"))
    page.set_input_files("#file", photos / "coffee.jpg")
    arrived(page, "**image=upload-*")
    expect(page.locator(".example img")).to_have_js_property("complete", True)
    expect(page.locator(".card").first).to_contain_text("coffee")
    expect(page.locator(".vector")).to_contain_text("Searching for")


def give(page: Page, photo: Path, how: str) -> None:
    """Paste a photo into the page, or drop it, as the browser's events have it."""
    content = base64.b64encode(photo.read_bytes()).decode()
    page.evaluate(
        """([content, how]) => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
            const options = { bubbles: true, cancelable: true };
            if (how === "paste") {
                const given = { ...options, clipboardData: data };
                document.dispatchEvent(new ClipboardEvent("paste", given));
            } else {
                const given = { ...options, dataTransfer: data };
                for (const name of ["dragenter", "dragover", "drop"]) {
                    document.body.dispatchEvent(new DragEvent(name, given));
                }
            }
        }""",
        [content, how],
    )


@pytest.mark.parametrize(("how", "name"), [("paste", "rocket"), ("drop", "chelsea")])
def test_a_picture_is_pasted_or_dropped(open_page: Open, photos: Path, how: str, name: str):
    page = open_page("/?by=dense-cosine")
    give(page, photos / f"{name}.jpg", how)
    page.wait_for_url("**image=upload-*")
    expect(page.locator(".card").first).to_contain_text(name)
    expect(page.locator("#drop")).to_be_hidden()


def test_a_result_is_searched_from(open_page: Open, ids: Ids):
    page = open_page("/?by=cosine")
    chosen = ids(page)[2]
    page.locator(".picture").nth(2).focus()
    page.keyboard.press("m")
    arrived(page, f"**image={chosen}*")
    assert chosen == ids(page)[0]  # by a cosine no picture is nearer than itself
    page.go_back()
    expect(page.locator("#summary")).to_contain_text("All 76 pictures")


def test_a_region_is_drawn(open_page: Open, ids: Ids):
    page = open_page(f"/?image={ids(open_page())[0]}")
    whole = page.locator(".vector").inner_text()
    page.get_by_role("button", name="Crop").click()
    # With its picture the stage gets its size.
    expect(page.locator("#crop-image")).not_to_have_js_property("naturalWidth", 0)
    box = page.locator("#stage").bounding_box()
    assert box
    page.mouse.move(box["x"] + 4, box["y"] + 4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    expect(page.locator("#frame-text")).to_contain_text("to 50 % of the width")
    page.get_by_role("button", name="Search for this part").click()
    arrived(page, "**region=0.0*")
    expect(page.locator(".outline")).to_be_visible()
    assert page.locator(".vector").inner_text() != whole
    page.get_by_role("link", name="Whole").click()
    expect(page.locator(".outline")).to_have_count(0)


def test_a_region_is_chosen_by_keys(open_page: Open, ids: Ids):
    page = open_page(f"/?image={ids(open_page())[0]}")
    page.get_by_role("button", name="Crop").press("Enter")
    expect(page.locator("#frame")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    expect(page.locator("#frame-text")).to_contain_text("From 22 to 82 % of the width, 20 to 82 %")
    page.keyboard.press("Escape")
    expect(page.locator("#crop")).to_be_hidden()
    assert "region" not in page.url


def test_liking_and_disliking_refine(open_page: Open, ids: Ids, word: SimpleNamespace):
    page = open_page(f"/?q={word.query}")
    before = ids(page)
    liked = page.locator(f'[data-id="{before[12]}"] .score')
    score = float(liked.inner_text().split()[1].rstrip(","))
    page.locator(".act.like").nth(12).click()
    arrived(page, f"**like={before[12]}*")
    disliked = page.locator(f'[data-id="{before[1]}"] .score')
    liking = disliked.inner_text()
    page.locator(f'[data-id="{before[1]}"] .act.dislike').click()
    arrived(page, f"**dislike={before[1]}*")
    assert float(liked.inner_text().split()[1].rstrip(",")) > score
    assert disliked.inner_text() != liking
    expect(page.locator(".example.like")).to_have_count(1)
    expect(page.locator(".example.dislike")).to_have_count(1)
    page.locator(".example.dislike .remove").click()
    expect(page.locator(".example.dislike")).to_have_count(0)
    page.locator(f'[data-id="{before[12]}"] .act.like').click()
    expect(page.locator(".example")).to_have_count(0)
    assert ids(page) == before


def test_facets_narrow_and_let_go(open_page: Open):
    page = open_page()
    page.locator(".facets").get_by_role("link", name="original 19").click()
    expect(page.locator("#summary")).to_contain_text("All 19 pictures")
    page.locator(".facets").get_by_role("link", name="small 19").click()
    expect(page.locator("#summary")).to_contain_text("All 38 pictures")
    page.locator(".facets").get_by_role("link", name="WEBP 19").click()
    expect(page.locator("#summary")).to_contain_text("All 19 pictures")
    expect(page.locator(".choices li")).to_have_count(3)
    page.get_by_role("link", name="Label: original").click()
    expect(page.locator(".choices li")).to_have_count(2)
    page.get_by_role("link", name="Format: WEBP").click()
    expect(page.locator("#summary")).to_contain_text("All 19 pictures")
    expect(page).to_have_url(re.compile(r"/\?where=label%3Dsmall$"))


def large(page: Page, name: str = "") -> Locator:
    """The large view, once it shows a picture of this name, and all that is said of it."""
    view = page.get_by_role("dialog", name="Picture")
    expect(view.get_by_role("heading", level=2)).to_contain_text(name)
    expect(view.locator(".view-about")).not_to_have_attribute("aria-busy", "true")
    return view


def test_a_picture_is_looked_at_large(open_page: Open, word: SimpleNamespace, ids: Ids):
    page = open_page(f"/?q={word.query}")
    names = page.locator(".card .name > bdi").all_inner_texts()
    score = page.locator(".card .score").first.inner_text().split()[-1]
    page.locator(".picture").first.click()
    view = large(page, names[0])
    expect(view).to_contain_text(f"Why it is here: {score}")
    expect(view.locator(".why > li")).to_have_count(1)
    view.get_by_role("button", name="Copy path").click()
    path = page.evaluate("navigator.clipboard.readText()")
    assert Path(path).is_file()
    expect(view.locator("dl")).to_contain_text(path)
    image = view.locator(".view-image")
    expect(image).to_have_attribute("src", re.compile("/1280"))
    plain = image.bounding_box()
    page.locator(".view-stage").dblclick()
    assert image.bounding_box()["width"] == pytest.approx(2.5 * plain["width"], rel=0.01)
    page.mouse.wheel(0, 2000)
    assert image.bounding_box() == plain
    page.keyboard.press("ArrowRight")
    large(page, names[1])
    assert page.url.endswith(f"#picture-{ids(page)[1]}")
    page.reload()  # the address says what is large
    large(page, names[1])
    page.keyboard.press("ArrowLeft")
    large(page, names[0])
    page.keyboard.press("Escape")
    expect(view).to_be_hidden()
    expect(page.locator(".picture").first).to_be_focused()
    assert "#" not in page.url
    chosen = ids(page)[1]
    page.locator(".picture").nth(1).click()
    large(page, names[1]).get_by_role("link", name="More like this").click()
    arrived(page, f"**image={chosen}")
    expect(page.locator("dialog[open]")).to_have_count(0)


def is_at(page: Page, place: float) -> None:
    """Wait until the page is scrolled to a place."""
    for _ in range(150):
        if abs(page.evaluate("scrollY") - place) < 3:
            return
        page.wait_for_timeout(100)
    assert page.evaluate("scrollY") == place


def test_more_come_as_one_scrolls_and_back_leads_to_the_same_place(open_page: Open, ids: Ids):
    page = open_page()
    page.get_by_label("Size of the pictures").fill("260")
    for many in (48, 72, 76):
        page.locator(".card").last.scroll_into_view_if_needed()
        expect(page.locator(".card")).to_have_count(many)
    expect(page.locator("#range")).to_have_text("1–76")
    assert len(set(ids(page))) == 76
    heights: dict[int, list[float]] = {}
    for top, height in page.locator(".card").evaluate_all(
        "all => all.map((one) => [one.offsetTop, "
        "one.querySelector('.picture').getBoundingClientRect().height])"
    ):
        heights.setdefault(top, []).append(height)
    rows = [row for row in heights.values() if len(row) > 1]
    assert len(rows) > 3
    assert all(max(row) - min(row) < 1.5 for row in rows)  # pixels, however wide they are
    page.locator(".picture").nth(60).focus()
    page.wait_for_timeout(200)  # while the place is kept
    place, chosen = page.evaluate("scrollY"), ids(page)[60]
    page.keyboard.press("m")
    arrived(page, f"**image={chosen}*")
    assert page.evaluate("scrollY") == 0
    page.go_back()
    expect(page.locator("#summary")).to_contain_text("All 76 pictures")
    expect(page.locator(".card")).to_have_count(76)
    is_at(page, place)
    page.reload()
    is_at(page, place)
    assert page.get_by_label("Size of the pictures").input_value() == "260"


def test_the_rest_is_shown_where_asked(open_page: Open, ids: Ids, monkeypatch):
    monkeypatch.setattr(view, "cut", lambda hits: 30)
    page = open_page()
    page.locator(".card").last.scroll_into_view_if_needed()
    rest = page.locator("#rest")
    expect(rest).to_be_visible()
    page.wait_for_timeout(200)
    expect(page.locator(".card:visible")).to_have_count(30)
    rest.get_by_text("Show the rest").click()
    page.locator(".card").last.scroll_into_view_if_needed()
    expect(page.locator(".card:visible")).to_have_count(72)
    page.locator(".card").last.scroll_into_view_if_needed()
    expect(page.locator(".card:visible")).to_have_count(76)
    assert rest.locator(".card").count() == 46
    assert len(set(ids(page))) == 76


def test_one_s_own_picture_is_there_at_once_and_sent_small(
    open_page: Open, server: Client, tmp_path: Path
):
    Image.effect_noise((1500, 3000), 90).convert("RGB").save(tmp_path / "tall.jpg")
    page = open_page()
    held: list[Route] = []
    page.route("**/api/v1/uploads", lambda route: held.append(route))
    with page.expect_request("**/api/v1/uploads"):
        page.set_input_files("#file", tmp_path / "tall.jpg")
        expect(page.locator(".example.own img")).to_have_js_property("naturalHeight", 3000)
    expect(page.locator(".example.own")).to_contain_text(re.compile("Sending|Looking"))
    page.wait_for_timeout(100)
    held[0].continue_()
    arrived(page, "**image=upload-*")
    name = page.url.rpartition("image=")[2]
    upload = server.services.uploads.get(name)
    assert (upload.width, upload.height) == (512, 1024)
    expect(page.locator(".example img")).to_have_attribute("src", re.compile("^blob:"))
    page.goto(page.url + "&region=0.25,0.5,0.75,1")
    settled(page)
    picture = page.locator(".example img").bounding_box()
    outline = page.locator(".example .outline").bounding_box()
    assert outline["x"] - picture["x"] == pytest.approx(picture["width"] / 4, abs=2)
    assert outline["y"] - picture["y"] == pytest.approx(picture["height"] / 2, abs=2)
    assert outline["height"] == pytest.approx(picture["height"] / 2, abs=2)


def test_without_an_answer_there_is_a_sentence(open_page: Open, word: SimpleNamespace):
    page = open_page(f"/?q={word.query}")
    expect(page.locator(".card").first).to_be_visible()
    page.route("**/results*", lambda route: route.abort())
    page.route("**/why*", lambda route: route.abort())
    page.fill("#q", "dog")
    page.press("#q", "Enter")
    expect(page.locator("#toast")).to_have_text("The server does not answer. Is it still running?")
    page.locator(".picture").first.click()
    expect(page.locator(".view-image")).not_to_have_js_property("naturalWidth", 0)
    expect(page.locator(".view-about")).to_contain_text("The server does not answer.")
    page.keyboard.press("Escape")
    expect(page.locator(".card").first).to_be_visible()


def test_after_back_without_an_answer_no_other_page_is_shown(open_page: Open, ids: Ids):
    page = open_page("/?where=label%3Doriginal")
    before = ids(page)
    page.fill("#q", "dog")
    page.press("#q", "Enter")
    arrived(page, "**q=dog*")
    page.route("**/results*", lambda route: route.abort())
    page.go_back()
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer.")
    assert (ids(page), page.input_value("#q")) == ([], "")
    page.unroute("**/results*")
    page.get_by_role("link", name="Try again").click()
    expect(page.locator(".card").first).to_be_visible()
    assert ids(page) == before


def test_a_link_is_shared(open_page: Open, ids: Ids, photos: Path):
    page = open_page("/?where=label%3Doriginal")
    page.set_input_files("#file", photos / "coffee.jpg")
    arrived(page, "**image=upload-*")
    page.get_by_role("button", name="Copy a link").click()
    expect(page.locator("#toast")).to_contain_text("Link copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert "upload-" not in link
    other = open_page(link, base="")
    assert ids(other) == ids(page) != []


def test_ways_to_rank(open_page: Open, ids: Ids):
    page = open_page(f"/?image={ids(open_page())[0]}")
    page.select_option("#by", "dense-cosine")
    arrived(page, "**by=dense-cosine*")
    expect(page.locator("#by")).to_be_focused()
    assert len(ids(page)) == 24


def test_by_keys_alone(open_page: Open, ids: Ids, word: SimpleNamespace):
    page = open_page()
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type(word.query)
    page.keyboard.press("Enter")
    arrived(page, "**q=*")
    shown = ids(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".picture").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    large(page)
    page.keyboard.press("Escape")
    expect(page.locator(".picture").nth(1)).to_be_focused()
    page.keyboard.press("l")
    arrived(page, f"**like={shown[1]}*")
    expect(page.locator(f'[data-id="{shown[1]}"] .act.like')).to_be_focused()
    page.keyboard.press("d")
    arrived(page, f"**dislike={shown[1]}*")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys and words")).to_be_visible()


def test_quick_clicks_and_another_ranking_count_all(open_page: Open):
    page = open_page("/?q=cat")

    def answer_late(route: Route) -> None:  # as where another program writes to the index
        expect(page.locator("#toast")).to_contain_text("Still waiting")
        route.continue_()

    page.route("**/results?*cosine*", answer_late)
    page.evaluate(
        """() => {
            for (const link of document.querySelectorAll("#facets a"))
                if (/original|small/.test(link.textContent)) link.click();
            const by = document.getElementById("by");
            by.value = "cosine";
            by.dispatchEvent(new Event("change", { bubbles: true }));
        }"""
    )
    arrived(page, "**by=cosine*")
    assert page.url.count("where=") == 2
    expect(page.locator("#toast")).to_be_hidden()


def test_the_theme_is_chosen_and_kept(open_page: Open):
    page = open_page()
    body = page.locator("body")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(body).not_to_have_css("background-color", light)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    expect(body).to_have_css("background-color", dark)


def test_on_a_phone(open_page: Open):
    page = open_page(size=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
    expect(page.locator(".groups")).to_be_hidden()
    page.locator("#facets summary").first.click()
    page.get_by_role("link", name="original 19").click()
    expect(page.locator("#summary")).to_contain_text("All 19 pictures")
    page.locator(".picture").first.tap()
    view = large(page)
    page.go_back()
    expect(view).to_be_hidden()
    expect(page.locator("#summary")).to_contain_text("All 19 pictures")
    for target in page.locator(".card").first.locator(".act").all():
        box = target.bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 24  # WCAG 2.2, target size


def test_the_start_page_is_small_and_the_rest_comes_when_needed(open_page: Open, server: Client):
    page, sizes = open_page("/static/icon.svg"), {}
    page.on("response", lambda one: sizes.update({one.url.removeprefix(server.url): one}))
    page.goto(server.url + "/")
    settled(page)
    bodies = {path: one.body() for path, one in sizes.items() if "/thumbnails/" not in path}
    bodies["/"] = re.sub(rb"(?s)(<main.*?>).*</main>", rb"\1", bodies["/"])  # what the index has
    assert sum(map(len, bodies.values())) <= 60_000, {path: len(b) for path, b in bodies.items()}
    assert "/static/page.js" in bodies
    assert "/static/view.js" not in bodies
    page.locator(".picture").first.press("Enter")
    large(page)
    assert "/static/view.js" in sizes


def test_thumbnails_come_as_they_are_needed(open_page: Open, server: Client):
    asked: list[str] = []
    page = open_page("/static/icon.svg", size=PHONE)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url + "/")
    page.wait_for_load_state("networkidle")
    early = sum("/thumbnails/" in url for url in asked)
    assert early < 24
    page.locator(".card").nth(23).scroll_into_view_if_needed()
    expect(page.locator(".card img").nth(23)).to_have_js_property("complete", True)


def test_a_picture_that_is_gone_is_said_so(open_page: Open, photos: Path, ids: Ids):
    asked = "/?where=label%3Doriginal&q=entity"
    page = open_page(asked)
    settled(page)  # or a thumbnail that is asked for now is drawn after the others are deleted
    name = page.locator(".card .name > bdi").first.inner_text()
    file, aside = photos / name, photos.parent / name
    file.rename(aside)
    for path in (photos.parent / "cache").rglob("*.jpg"):
        path.unlink()
    try:
        card = open_page(asked).locator(".card", has_text=name)
        expect(card.locator(".gone")).to_contain_text("moved, changed or gone")
    finally:
        aside.rename(file)


def test_without_a_script_the_page_works(open_page: Open, word: SimpleNamespace):
    page = open_page(script=False)
    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**page=2*")
    page.fill("#q", word.query)
    page.press("#q", "Enter")
    page.wait_for_url("**/?q=*")
    page.locator(".act.like").nth(2).click()
    page.wait_for_url("**like=*")
    page.locator(".facets").get_by_role("link", name=re.compile("original")).click()
    page.wait_for_url("**where=label*")
    assert page.locator("#pick").is_hidden()
    page.locator(".picture").first.click()
    page.wait_for_url("**/why?picture=*")
    expect(page.locator("article")).to_contain_text("What is seen in it")
    page.get_by_role("link", name="More like this").click()
    page.wait_for_url("**/?image=*")


def test_a_word_is_taught_from_liked_results(
    open_page: Open, locked: Client, server: Client, photos: Path
):
    like = [picture_id(str(photos / f"chelsea{end}.jpg")) for end in ("", "-mirrored")]
    page = open_page(f"/?like={like[0]}", base=locked.url)
    page.fill("#token", TOKEN)
    page.get_by_role("button", name="Open").click()
    offer = page.get_by_role("button", name="Teach a word from")
    offer.click()
    dialog = page.get_by_role("dialog", name="Teach a word")
    dialog.get_by_label("Word").fill("my cat")
    dialog.get_by_role("button", name="Teach", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("at least 2 different pictures")
    assert serious(page) == []
    dialog.get_by_role("button", name="Close").click()
    page.locator(f'[data-id="{like[1]}"] .act.like').click()
    page.wait_for_url("**like=*like=*")
    settled(page)
    offer.click()
    dialog.get_by_role("button", name="Teach", exact=True).click()
    page.wait_for_url("**q=%22my+cat%22*")
    expect(page.locator("#toast")).to_contain_text("Taught my cat: ")
    expect(page.locator(".card").first.locator(".chips .shared")).to_contain_text("my cat")
    reading = open_page(f"/?like={like[0]}&like={like[1]}")
    expect(reading.locator(".vector")).to_be_visible()
    expect(reading.get_by_role("button", name="Teach a word from")).to_have_count(0)
    locked.headers = dict(BEARER)
    assert locked("DELETE", "/api/v1/words/my%20cat").status == 200


def test_a_locked_page_asks_for_the_token(open_page: Open, locked: Client, photos: Path):
    page = open_page("/?where=label%3Doriginal", base=locked.url)
    dialog = page.get_by_role("dialog", name="This index needs a token")
    expect(dialog).to_be_visible()
    for _ in range(3):
        page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Token").fill("not-the-token-at-all")
    dialog.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_contain_text("not accepted")
    dialog.get_by_label("Token").fill(TOKEN)
    dialog.get_by_role("button", name="Open").click()
    expect(page.locator("#summary")).to_contain_text("All 19 pictures")
    expect(page.locator(".card img").first).not_to_have_js_property("naturalWidth", 0)
    assert TOKEN not in page.url
    page.set_input_files("#file", photos / "coffee.jpg")
    page.wait_for_url("**image=upload-*")
    expect(page.locator(".example img").first).not_to_have_js_property("naturalWidth", 0)
    page.locator(".picture").first.click()
    expect(large(page).locator("img")).not_to_have_js_property("naturalWidth", 0)
