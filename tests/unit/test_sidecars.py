"""XMP sidecars: synsets for photo programs, beside what these keep there themselves."""

from __future__ import annotations

import os
import re
import shutil
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.indexing.photos import words_of
from imgsearch_es.pictures.photo import read_photo
from imgsearch_es.pictures.sidecars import HIERARCHY, SUBJECT, SidecarError, tag
from imgsearch_es.retrieval.traces import TRACE
from imgsearch_es.vocabulary.synsets import imagenet
from tests.unit.test_photos import dng, exif_of

RDF = "xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'"
DC = "xmlns:dc='http://purl.org/dc/elements/1.1/'"
WORDS = {SUBJECT: ["Katze & <Hund>", "Meer"], HIERARCHY: ["Tier|Katze & <Hund>"]}


def sidecar(inside: str, head: str = "") -> bytes:
    return (
        f"{head}<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF {RDF}>\n{inside}</rdf:RDF></x:xmpmeta>"
    ).encode()


FOREIGN = {
    "darktable": sidecar(
        "<rdf:Description rdf:about='a&amp;b' xmlns:xmp='http://ns.adobe.com/xap/1.0/'\n"
        " xmp:CreateDate='2018-02-03T04:05:06' xmlns:darktable='http://darktable.sf.net/'\n"
        " darktable:history='a&#10;b'/>\n",
        "<?xml version='1.0' encoding='utf-8'?><!-- of ours -->\n",
    ),
    "digiKam": sidecar(
        f"<rdf:Description rdf:about='' {DC}><dc:description><rdf:Alt>"
        "<rdf:li xml:lang='x-default'>Am Strand</rdf:li></rdf:Alt></dc:description>"
        "<dc:subject><rdf:Bag><rdf:li> Meer\n</rdf:li></rdf:Bag></dc:subject></rdf:Description>",
        "\ufeff<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>",
    ),
    "other prefixes": sidecar(
        f"<r:Description {RDF.replace('rdf=', 'r=')}><subject xmlns='http://purl.org/dc/elements/1.1/'>"
        f"<Seq {RDF.replace(':rdf', '')}><li>Ferien</li></Seq ></subject></r:Description>"
    ),
}
UNSAFE = {
    "entities": sidecar("", "<!DOCTYPE x [<!ENTITY a 'aaaa'>]>"),
    "no XMP (": b"\xff\xd8\xff",
    "not known": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
    "is not known": sidecar(f"<rdf:Description {DC} dc:subject='Meer'/>"),
    "form that is not known": sidecar(
        f"<rdf:Description {DC}><dc:subject><rdf:Bag/></dc:subject></rdf:Description>"
    ),
    "its keywords are": sidecar(
        f"<rdf:Description {DC}><dc:subject><rdf:Bag><rdf:li>Meer</rdf:li></rdf:Bag></dc:subject>"
        f"</rdf:Description><rdf:Description {DC} dc:subject='Strand'/>"
    ),
    "keywords are in": sidecar(
        f"<rdf:Description {DC}>{'<dc:subject><rdf:Bag></rdf:Bag></dc:subject>' * 2}"
        "</rdf:Description>"
    ),
    "not in UTF-8": sidecar("", "<?xml version='1.0' encoding='latin1'?>"),
    "no XMP": FOREIGN["digiKam"].decode().encode("utf-16"),
    "more than 2,000 characters": sidecar(  # each crumb would cost a copy of it
        f"<rdf:Description {DC}><dc:subject><rdf:Bag><rdf:li>{'<b/>a' * 3_000_000}</rdf:li>"
        "</rdf:Bag></dc:subject></rdf:Description>"
    ),
}


def test_tags_come_back_as_keywords(place, photos, tmp_path, run, asked):
    pictures = {path: path.read_bytes() for path in photos.rglob("*.png")}
    line = ("tag", "--xmp", "-i", place, "--where", "label=cats")
    would = asked(*line, "--dry-run")
    assert (would["pictures"], would["written"]) == (6, len(would["sidecars"]))
    assert f"{photos}/cats/cat.0.png: " in run(*line, "--dry-run").stdout
    assert not list(photos.rglob("*.xmp"))
    written = would["written"]
    assert written
    assert run(*line).stdout == f"6 pictures, {written} sidecars written\n"
    assert run(*line).stdout == "6 pictures, 0 sidecars written\n"
    assert {path: path.read_bytes() for path in photos.rglob("*.png")} == pictures
    with ImageIndex(tmp_path / "b.duckdb", model="fake") as index:
        assert ".xmp" not in index.add(photos).passed_over
        found = {d.uri: list(d.photo.keywords) for d in index if d.photo.keywords}
        assert found == would["sidecars"]
        (uri, (word, *_)) = next(iter(found.items()))
        hits = index.search(where={"keyword": word})
        assert uri in [hit.uri for hit in hits]
        document = index.get(uri)
        words = words_of(document, imagenet(), TRACE)
        assert words[SUBJECT] == found[uri]
        assert all(path.endswith(f"|{name}") for name, path in zip(*words.values(), strict=True))
        Path(uri).unlink()
        assert index.tag().refused == [(uri, "the file is gone")]
    assert "--xmp" in run("tag", "-i", place, code=2).stderr


def test_a_sidecar_of_ours_is_written_anew(tmp_path):
    picture = tmp_path / "a.jpg"
    assert not tag(picture, {SUBJECT: [], HIERARCHY: []}, is_raw=False, dry_run=False)
    for words in (WORDS, {SUBJECT: ["Hund"]}):
        assert tag(picture, words, is_raw=False, dry_run=False)
        assert read_photo({}, b"", str(picture)).keywords == tuple(words[SUBJECT])
    (tmp_path / "a.jpg.xmp").write_bytes(
        (tmp_path / "a.jpg.xmp").read_bytes().replace(b"Hund", b"Fuchs &amp; Hase")
    )
    (tmp_path / "a.jpg.xmp").chmod(0o640)
    assert tag(picture, {SUBJECT: ["Hund"]}, is_raw=False, dry_run=False)
    assert read_photo({}, b"", str(picture)).keywords == ("Hund",)
    assert (tmp_path / "a.jpg.xmp").stat().st_mode & 0o777 == 0o640
    (tmp_path / "d.dng").write_bytes(dng())
    (tmp_path / "d.xmp").write_bytes(FOREIGN["digiKam"])
    assert tag(tmp_path / "d.dng", WORDS, is_raw=True, dry_run=False)
    assert not (tmp_path / "d.dng.xmp").exists()
    shutil.move(tmp_path / "d.dng", tmp_path / "a.dng")
    assert tag(tmp_path / "a.dng", WORDS, is_raw=True, dry_run=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.dng", "a.dng.xmp", "a.jpg.xmp", "d.xmp"
    ]  # fmt: skip


@pytest.mark.parametrize("maker", FOREIGN)
def test_what_others_wrote_stays(tmp_path, maker):
    before, picture, place = FOREIGN[maker], tmp_path / "a.jpg", tmp_path / "a.jpg.xmp"
    place.write_bytes(before)
    old = read_photo({}, b"", str(picture))
    assert tag(picture, WORDS, is_raw=False, dry_run=False)
    after = place.read_bytes()
    changes = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    assert {change[0] for change in changes} == {"equal", "insert"}
    new = read_photo({}, b"", str(picture))
    assert (new.caption, new.taken_at) == (old.caption, old.taken_at)
    assert new.keywords == tuple(dict.fromkeys((*old.keywords, *WORDS[SUBJECT])))
    assert after.count(b"Tier|Katze") == 1
    assert not tag(picture, WORDS, is_raw=False, dry_run=False)


@pytest.mark.parametrize("why", UNSAFE)
def test_what_cannot_be_changed_safely_is_left(tmp_path, why):
    place = tmp_path / "a.jpg.xmp"
    place.write_bytes(UNSAFE[why])
    with pytest.raises(SidecarError, match=f"a.jpg.xmp stays as it is: .*{re.escape(why)}"):
        tag(tmp_path / "a.jpg", WORDS, is_raw=False, dry_run=False)
    assert place.read_bytes() == UNSAFE[why]
    place.unlink()
    place.mkdir()
    with pytest.raises(SidecarError, match="stays as it is: is a folder"):
        tag(tmp_path / "a.jpg", WORDS, is_raw=False, dry_run=False)


def test_what_is_no_sidecar_is_not_read(tmp_path, monkeypatch):
    """Nobody waits for a FIFO, and a large file is not taken into memory."""
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda path: pytest.fail("read as a whole"))
    os.mkfifo(tmp_path / "a.jpg.xmp")
    with (tmp_path / "b.jpg.xmp").open("wb") as file:
        file.truncate((16 << 20) + 1)
    for name, why in (("a.jpg", "a FIFO"), ("b.jpg", "larger than the limit")):
        with pytest.raises(SidecarError, match=f"stays as it is: .*{why}"):
            tag(tmp_path / name, WORDS, is_raw=False, dry_run=False)


EXIF = {"exif": exif_of().tobytes()}
XMP_NAMES = (
    "xmlns:exif='http://ns.adobe.com/exif/1.0/' xmlns:xmp='http://ns.adobe.com/xap/1.0/' "
    "xmlns:photoshop='http://ns.adobe.com/photoshop/1.0/'"
)


@pytest.mark.parametrize(
    ("said", "info", "taken"),
    [
        ("exif:DateTimeOriginal='1975-08-01T12:00:00+02:00'", EXIF, "1975-08-01T12:00:00"),
        ("photoshop:DateCreated='1975-08'", EXIF, "1975-08-01T00:00:00"),
        ("photoshop:DateCreated='1975-00-00'", EXIF, "1975-01-01T00:00:00"),
        ("photoshop:DateCreated='1975'", {}, "1975-01-01T00:00:00"),
        ("photoshop:DateCreated='2019-07-01'", EXIF, "2019-07-01T18:30:05"),  # to the second there
        ("xmp:CreateDate='2024-01-02T03:04:05'", EXIF, "2019-07-01T18:30:05"),  # of scanning it
        ("exif:DateTimeOriginal='soon'", EXIF, "2019-07-01T18:30:05"),
        ("exif:DateTimeOriginal='1975 or so'", EXIF, "2019-07-01T18:30:05"),
    ],
)
def test_a_date_of_a_sidecar_counts_first(tmp_path, said, info, taken):
    (tmp_path / "a.jpg.xmp").write_bytes(sidecar(f"<rdf:Description {XMP_NAMES} {said}/>"))
    assert read_photo(info, b"", str(tmp_path / "a.jpg")).taken_at.isoformat() == taken


def test_a_title_of_a_sidecar_counts_before_what_the_file_says(tmp_path):
    (tmp_path / "a.jpg.xmp").write_bytes(sidecar(f"<rdf:Description {DC} dc:title='Am Strand'/>"))
    exif = exif_of()
    exif[270] = "OLYMPUS DIGITAL CAMERA"
    assert read_photo({"exif": exif.tobytes()}, b"", str(tmp_path / "a.jpg")).caption == "Am Strand"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("head", ["", "<!DOCTYPE x [<!ENTITY a 'Strand'>]>"])
def test_a_sidecar_in_another_encoding_is_read_and_hides_no_entities(tmp_path, encoding, head):
    whole = sidecar(f"<rdf:Description {DC} dc:title='Grüße'/>", head).decode()
    whole = f"\ufeff<?xml version='1.0' encoding='utf-16'?>{whole}"
    (tmp_path / "a.jpg.xmp").write_bytes(whole.encode(encoding))
    assert read_photo({}, b"", str(tmp_path / "a.jpg")).caption == ("" if head else "Grüße")


def test_what_a_sidecar_says_of_parts_is_not_said_of_the_picture(tmp_path):
    part = f"<rdf:Description {DC} dc:title='part'><dc:subject><rdf:Bag><rdf:li>part</rdf:li>"
    part += "</rdf:Bag></dc:subject></rdf:Description>"
    (tmp_path / "a.jpg.xmp").write_bytes(
        sidecar(
            "<rdf:Description xmlns:m='http://ns.adobe.com/xap/1.0/mm/'><m:Pantry><rdf:Bag>"
            f"<rdf:li>{part}</rdf:li></rdf:Bag></m:Pantry></rdf:Description>"
        )
    )
    assert tag(tmp_path / "a.jpg", {SUBJECT: ["Meer"]}, is_raw=False, dry_run=False)
    photo = read_photo({}, b"", str(tmp_path / "a.jpg"))
    assert (photo.keywords, photo.caption) == (("Meer",), "")
