"""What a person does with pictures on the page: several at once, in time, on a map, in albums."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from imgsearch_es.evaluation.clicks import read_interactions
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.guard import ServerSettings
from tests.browser.conftest import DESKTOP, MILLISECONDS, PHONE, Open
from tests.browser.test_accessibility import serious
from tests.browser.test_page import settled
from tests.fakes import noise, register
from tests.serving import TOKEN, Client, serving

TABLET = (820, 1100)
Ids = Callable[[Page], list[str]]
PLACES = {"Rome": (2019, 5, 41.9, 12.5), "Kyoto": (2021, 4, 35.0, 135.8)}


def exif(year: int, month: int, latitude: float, longitude: float) -> Image.Exif:
    made = Image.Exif()
    made.get_ifd(34665)[36867] = f"{year}:{month:02}:12 10:00:00"
    place = made.get_ifd(34853)
    for number, (name, value) in enumerate((("N", latitude), ("E", longitude))):
        place[2 * number + 1] = name
        place[2 * number + 2] = (float(int(value)), round(value % 1 * 60, 3), 0.0)
    return made


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures in two folders, each with its month and place, beside their index."""
    register()
    folder = tmp_path_factory.mktemp("album")
    for name, facts in PLACES.items():
        (folder / name).mkdir()
        for number in range(6):
            seed = number + 10 * len(name)
            path = folder / name / f"{name}{number}.jpg"
            noise(seed).save(path, exif=exif(*facts))
    with ServedIndex(folder / "album.duckdb", model="fake", gps=True) as index:
        index.add([folder / name for name in PLACES])
    return folder


@pytest.fixture(scope="module")
def shelf(album: Path) -> Iterator[Client]:
    """A server for this machine, which reads without the token and changes with it."""
    settings = ServerSettings(port=0, rate=0, token=TOKEN, cache_folder=album / "cache")
    with serving(ServedIndex(album / "album.duckdb"), settings) as client:
        yield client


def chosen(page: Page) -> int:
    return page.locator(".card.chosen").count()


def do(page: Page, name: str) -> None:
    page.get_by_role("toolbar").get_by_role("button", name=name, exact=True).click()


def test_several_are_selected_and_labeled_taught_copied_downloaded_and_removed(
    open_page: Open, shelf: Client, ids: Ids, album: Path
):
    page = open_page("/?by=filename", base=shelf.url)
    shown = ids(page)
    page.locator(".card").nth(1).hover()
    page.get_by_role("checkbox").nth(1).check()
    page.get_by_role("checkbox").nth(4).click(modifiers=["Shift"])
    expect(page.locator("#selected")).to_have_text("4 pictures selected")
    page.locator(".picture").nth(2).click()  # which opens nothing now
    page.locator(".picture").nth(0).focus()
    page.keyboard.press("x")
    assert [i for i in range(12) if page.get_by_role("checkbox").nth(i).is_checked()] == [
        0,
        1,
        3,
        4,
    ]
    assert serious(page) == []
    do(page, "Copy paths")
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert sorted(Path(one).name for one in copied) == [f"Kyoto{n}.jpg" for n in (0, 1, 3, 4)]
    with page.expect_download() as download:
        do(page, "Download")
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as found:
        assert found.read("Kyoto3.jpg") == (album / "Kyoto" / "Kyoto3.jpg").read_bytes()
        assert len(found.namelist()) == 4
    do(page, "Label…")
    dialog = page.get_by_role("dialog", name="Label 4 pictures")
    dialog.get_by_label("Add").fill("spring, trip")
    dialog.get_by_role("button", name="Label", exact=True).click()
    unlock = page.get_by_role("dialog", name="This index needs a token")
    expect(unlock).to_be_visible()
    page.keyboard.press("Escape")  # a change may be given up
    expect(unlock).to_be_hidden()
    dialog.get_by_role("button", name="Label", exact=True).click()
    unlock.get_by_label("Token").fill(TOKEN)
    assert serious(page) == []
    unlock.get_by_role("button", name="Open").click()
    expect(page.locator("#toast")).to_contain_text("4 pictures labeled")
    expect(page.locator(f'[data-id="{shown[3]}"] .name')).to_contain_text("spring, trip")
    page.goto(f"{shelf.url}/?q=label:trip")  # conditions alone list pictures
    settled(page)
    assert sorted(ids(page)) == sorted(shown[i] for i in (0, 1, 3, 4))
    expect(page.get_by_label("Sort by").locator("option")).to_have_count(3)
    page.get_by_role("button", name="Select", exact=True).click()
    do(page, "All here")
    do(page, "Teach a word…")
    dialog = page.get_by_role("dialog", name="Teach a word from 4 pictures")
    dialog.get_by_label("Word").fill("blossom")
    dialog.get_by_role("button", name="Teach", exact=True).click()  # the token is remembered
    page.wait_for_url("**q=%22blossom%22*")
    expect(page.locator("#toast")).to_contain_text("Taught blossom")
    page.goto(f"{shelf.url}/?by=filename")
    page.get_by_role("button", name="Select", exact=True).click()
    page.locator(".picture").nth(11).click()
    page.locator(".picture").nth(10).click()
    do(page, "Remove…")
    dialog = page.get_by_role("dialog", name="Remove 2 pictures from the index?")
    dialog.get_by_role("button", name="Keep them").click()
    assert chosen(page) == 2
    do(page, "Remove…")
    dialog.get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator("#summary")).to_contain_text("All 10 pictures")
    assert (album / "Rome" / "Rome5.jpg").exists()
    page.get_by_role("button", name="Select", exact=True).click()
    page.locator(".picture").nth(2).click()
    page.locator(".picture").nth(5).click()
    do(page, "Like")
    page.wait_for_url("**like=*like=*")
    page.get_by_role("button", name="Keys and words").click()
    page.get_by_role("button", name="Forget the token").click()
    page.wait_for_function("localStorage.getItem('imgsearch-token') === null")


def test_a_picture_of_a_tar_file_is_saved_by_its_own_name(
    open_page: Open, photos: Path, tmp_path: Path
):
    register()
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(photos / "coffee.jpg", "cups/coffee.jpg")
    with ServedIndex(tmp_path / "i.duckdb", model="fake") as index:
        index.add(tmp_path / "all.tar")
    settings = ServerSettings(port=0, rate=0, cache_folder=tmp_path)
    with serving(ServedIndex(tmp_path / "i.duckdb"), settings) as client:
        page = open_page(base=client.url)
        page.get_by_role("button", name="Select", exact=True).click()
        page.get_by_role("checkbox", name="Select coffee.jpg").check()
        with page.expect_download() as download:
            do(page, "Download")
        assert download.value.suggested_filename == "coffee.jpg"


@pytest.mark.parametrize("size", [DESKTOP, TABLET, PHONE], ids=["desktop", "tablet", "phone"])
def test_pictures_in_time_on_a_map_and_in_albums(open_page: Open, shelf: Client, size):
    page = open_page(base=shelf.url, size=size)
    page.get_by_role("link", name="Timeline").click()
    page.get_by_role("link", name="May 2019: ").click()
    expect(page.locator("#summary")).to_contain_text(re.compile("All [46] pictures"))
    assert serious(page) == []
    page.get_by_role("link", name="Year: May 2019").click()  # and the next at once
    page.get_by_role("link", name="Map", exact=True).click()
    page.locator("#map a[aria-label$='N, 136° E']").click()
    expect(page.locator("#summary")).to_contain_text("All 6 pictures")
    assert serious(page) == []
    page.get_by_role("link", name=re.compile("Place: 3[45]° N")).click()
    settled(page)
    if size == DESKTOP:
        page.goto(f"{page.url}&q=-label%3ABOX")
        world = page.locator("#map").bounding_box()
        assert world
        page.mouse.move(world["x"] + 5, world["y"] + 5)
        page.mouse.down()
        page.mouse.move(world["x"] + world["width"] / 2, world["y"] + world["height"] - 5, steps=3)
        page.mouse.up()
        page.wait_for_url("**where=within*")
        expect(page.locator("#summary")).to_contain_text(re.compile("[46] pictures"))
        expect(page.locator("#q")).to_have_value("-label:BOX")
        page.goto(shelf.url)
    page.get_by_role("link", name="Albums").click()
    page.get_by_role("navigation", name="Albums").get_by_role("link", name="Kyoto").click()
    expect(page.locator("#summary")).to_contain_text("All 6 pictures")
    expect(page.locator(".card .name").first).to_contain_text("Kyoto")
    page.get_by_label("Sort by").select_option(label="Name")
    page.wait_for_url("**by=filename*")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    page.get_by_role("button", name="Kept searches").click()
    dialog = page.get_by_role("dialog", name="Kept searches")
    dialog.get_by_label("Keep this search as").fill("Japan")
    dialog.get_by_role("button", name="Keep", exact=True).click()
    page.once("dialog", lambda asked: asked.accept("Kyoto in spring"))
    dialog.get_by_role("button", name="Rename Japan").click()
    assert serious(page) == []
    page.goto(shelf.url)
    page.get_by_role("button", name="Kept searches").click()
    dialog.get_by_role("link", name="Kyoto in spring").click()
    expect(page.locator("#summary")).to_contain_text("All 6 pictures")
    page.get_by_role("button", name="Kept searches").click()
    dialog.get_by_role("button", name="Remove Kyoto in spring").click()
    expect(dialog).to_contain_text("None yet")


def test_words_are_completed_kept_beside_an_upload_and_never_a_dead_end(
    open_page: Open, photos: Path
):
    page = open_page()
    box = page.get_by_role("combobox", name="Words")
    box.press_sequentially("motor dalmat")
    expect(page.get_by_role("option", name="dalmatian")).to_be_visible()
    assert serious(page) == []
    page.keyboard.press("ArrowDown")
    name = box.get_attribute("aria-activedescendant")
    expect(page.locator(f"#{name}")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    expect(box).to_have_attribute("aria-expanded", "false")
    expect(box).to_have_value("motor dalmat")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=motor+dalmatian*")
    page.set_input_files("#file", photos / "coffee.jpg")
    page.wait_for_url("**image=upload-*")
    settled(page)
    expect(box).to_have_value("motor dalmatian")
    for typed, whole in (  # a phrase of several words
        ("motor golden re", "motor golden retriever "),
        ("motor -golden re", 'motor -"golden retriever" '),
        ('"golden re', '"golden retriever" '),
    ):
        box.fill("")
        box.press_sequentially(typed)
        expect(page.get_by_role("option", name="golden retriever")).to_be_visible()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Tab")
        expect(box).to_have_value(whole)
    box.fill("motor dalmatian")
    ways = page.get_by_label("Rank by").locator("option")
    assert not any("Deep feature" in one for one in ways.all_inner_texts())
    page.goto(f"{page.url}&by=dense-cosine")
    expect(page.get_by_role("alert")).to_contain_text("words have no deep feature")
    page.get_by_role("link", name="Search by the picture alone").click()
    expect(page.locator(".card").first).to_contain_text("coffee")
    page.go_back()
    page.get_by_role("link", name="Rank by the inner product").click()
    expect(page.locator(".card").first).to_be_visible()


def test_an_index_that_is_not_there_is_waited_for_and_links_out_are_told(
    chromium, album: Path, tmp_path: Path
):
    (tmp_path / "links").mkdir()
    for number in range(3):
        (tmp_path / "links" / f"{number}.jpg").symlink_to(album / "Rome" / f"Rome{number}.jpg")
    place = tmp_path / "later.duckdb"
    settings = ServerSettings(port=0, rate=0, cache_folder=tmp_path / "cache")
    with serving(ServedIndex(place), settings) as client:
        page = chromium.new_page()
        page.set_default_timeout(MILLISECONDS)
        page.goto(client.url)
        expect(page.get_by_role("alert")).to_contain_text("There is no index yet")
        expect(page.locator("code").first).to_have_text(f"imgsearch index FOLDER --index {place}")
        with ServedIndex(place, model="fake") as index:
            index.add(tmp_path / "links")
        expect(page.locator("#summary")).to_contain_text("All 3 pictures")
        expect(page.locator(".notice-line")).to_contain_text("3 of 3 pictures lie outside")
        expect(page.locator(".gone").first).to_contain_text("start the server with --root DIR")
        held: list[Route] = []
        page.route("**/static/select.js", lambda route: held.append(route))
        with page.expect_request("**/static/select.js"):
            page.get_by_role("button", name="Select", exact=True).click()
        page.locator(".picture").first.click()  # before the selection has come: chosen, not opened
        held.pop().continue_()
        do(page, "Remove…")
        dialog = page.get_by_role("dialog", name="Remove 1 picture from the index?")
        dialog.get_by_role("button", name="Remove", exact=True).click()
        expect(dialog).to_contain_text("start it with a token in IMGSEARCH_TOKEN")
        page.close()


def test_what_is_shown_anew_disturbs_nobody(chromium, album: Path, tmp_path: Path):
    log = tmp_path / "log.jsonl"
    settings = ServerSettings(port=0, rate=0, cache_folder=tmp_path / "cache", log=log)
    with ServedIndex(tmp_path / "i.duckdb", model="fake") as index:
        index.add(album / "Rome")
        word = index.search(sort="uri")[0].document.terms[0].key
    with serving(ServedIndex(tmp_path / "i.duckdb"), settings) as client:
        client.services.readiness._grown_at = float("inf")  # pictures are being added
        page = chromium.new_page()
        page.set_default_timeout(MILLISECONDS)
        page.goto(f"{client.url}/?q=synset:{word}")
        settled(page)
        like = page.locator("[data-key=like]").last
        like.focus()
        with page.expect_response("**/results*"):
            pass
        expect(like).to_be_focused()
        held: list[Route] = []
        page.route("**/results?by=filename", lambda route: held.append(route))
        with page.expect_request("**/results?by=filename"):
            page.locator("a[data-nav]").first.evaluate(
                "it => { it.href = '/?by=filename'; it.click() }"
            )
        page.wait_for_timeout(3500)  # longer than until it would be shown anew
        held.pop().continue_()
        page.wait_for_url("**/?by=filename")
        page.close()
    assert len(read_interactions(log).searches) == 1
