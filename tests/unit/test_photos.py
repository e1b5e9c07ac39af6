"""Photos as people keep them: what EXIF and XMP say, and each kind of file accounted for."""

from __future__ import annotations

import io
import math
import os
import shutil
import struct
import sys
import tarfile
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image

from imgsearch_es import ImageIndex, Limits, PictureList
from imgsearch_es.errors import (
    ConfigurationError,
    ImageError,
    ImgsearchError,
    QueryError,
    SourceError,
    pip_install,
)
from imgsearch_es.indexing import relocating
from imgsearch_es.indexing.find import looks_unmounted
from imgsearch_es.pictures.images import open_image
from imgsearch_es.pictures.photo import Photo, read_photo

XMP = b"""<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF
 xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>
<rdf:Description xmlns:dc='http://purl.org/dc/elements/1.1/'
 xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmp:CreateDate='2018-02-03T04:05:06+01:00'>
<dc:description><rdf:Alt><rdf:li xml:lang='x-default'>Am  Strand</rdf:li></rdf:Alt></dc:description>
<dc:subject><rdf:Bag><rdf:li>Meer</rdf:li><rdf:li>Urlaub</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"""
TAKEN = datetime(2019, 7, 1, 18, 30, 5)


def exif_of(**values: object) -> Image.Exif:
    exif = Image.Exif()
    exif[271], exif[272] = "FUJIFILM", "X100V"
    exif.get_ifd(34665).update({36867: "2019:07:01 18:30:05", 42036: "23mm F2"})
    exif.get_ifd(34853).update({1: "N", 2: (48.0, 8.0, 24.0), 3: "W", 4: (11.0, 34.0, 48.0)})
    return exif


def dng() -> bytes:
    """The smallest file of its kind: a preview of 64 x 48, to be turned, and a few raw pixels."""
    preview = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(preview, "JPEG")
    start = 8 + preview.tell() + preview.tell() % 2

    def shorts(*values: int) -> bytes:
        return struct.pack(f"<{len(values)}H", *values)

    def longs(*values: int) -> bytes:
        return struct.pack(f"<{len(values)}I", *values)

    def directory(at: int, entries: list[tuple[int, int, int, bytes]]) -> bytes:
        head, data = shorts(len(entries)), b""
        for tag, kind, count, value in entries:
            head += struct.pack("<HHI", tag, kind, count)
            head += (
                value.ljust(4, b"\0")
                if len(value) <= 4
                else longs(at + 6 + 12 * len(entries) + len(data))
            )
            data += value + b"\0" * (len(value) % 2) if len(value) > 4 else b""
        return head + longs(0) + data

    pixels = bytes(96 * 64 * 2)
    raw = directory(start + len(pixels), [
        (254, 4, 1, longs(0)), (256, 4, 1, longs(96)), (257, 4, 1, longs(64)),
        (258, 3, 1, shorts(16)), (259, 3, 1, shorts(1)), (262, 3, 1, shorts(32803)),
        (273, 4, 1, longs(start)), (277, 3, 1, shorts(1)), (278, 4, 1, longs(64)),
        (279, 4, 1, longs(len(pixels))), (33421, 3, 2, shorts(2, 2)),
        (33422, 1, 4, bytes([0, 1, 1, 2])), (50717, 4, 1, longs(4095)),
    ])  # fmt: skip
    at = start + len(pixels) + len(raw)
    exif = directory(at, [(36867, 2, 20, b"2019:07:01 18:30:05\0")])
    main = directory(at + len(exif), [
        (254, 4, 1, longs(1)), (256, 4, 1, longs(64)), (257, 4, 1, longs(48)),
        (258, 3, 3, shorts(8, 8, 8)), (259, 3, 1, shorts(7)), (262, 3, 1, shorts(6)),
        (272, 2, 6, b"X100V\0"), (273, 4, 1, longs(8)), (274, 3, 1, shorts(6)),
        (277, 3, 1, shorts(3)), (278, 4, 1, longs(48)), (279, 4, 1, longs(preview.tell())),
        (330, 4, 1, longs(start + len(pixels))), (34665, 4, 1, longs(at)),
        (50706, 1, 4, bytes([1, 4, 0, 0])), (50708, 2, 6, b"X100V\0"),
        (50721, 10, 9, struct.pack("<18i", *([1, 1, 0, 1, 0, 1, 0, 1, 1, 1] + [0, 1] * 4))),
        (50778, 3, 1, shorts(21)),
    ])  # fmt: skip
    whole = b"II*\0" + longs(at + len(exif)) + preview.getvalue()
    return whole.ljust(start, b"\0") + pixels + raw + exif + main


def psd() -> bytes:
    """One flat picture of 8 x 6 red pixels."""
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 6, 8, 8, 3)
    return head + bytes(12) + bytes(2) + b"\xff" * 48 + bytes(96)


def mp4(path: Path) -> None:
    import av

    with av.open(path, "w", options={"movflags": "+use_metadata_tags"}) as container:
        container.metadata["creation_time"] = "2019-07-01T18:30:05.000000Z"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(20):
            color = "black" if i < 1 else "red"
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), color))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def phone(tmp_path_factory) -> Path:
    """A folder as people have them."""
    import pillow_heif

    folder = tmp_path_factory.mktemp("phone")
    red = Image.new("RGB", (64, 48), "red")
    red.save(folder / "a.jpg", exif=exif_of(), xmp=XMP)
    pillow_heif.from_pillow(red).save(folder / "b.heic", exif=exif_of().tobytes())
    (folder / "c.dng").write_bytes(dng())
    red.save(folder / "d.png")
    mp4(folder / "e.mp4")
    (folder / "f.pdf").write_bytes(b"%PDF-1.7\n")
    (folder / "g.jpg").write_bytes(b"\xff\xd8\xff broken")
    red.save(folder / "h.tga")
    (folder / "i.psd").write_bytes(psd())
    for kind in ("sgi", "pcx", "qoi", "dds"):
        red.save(folder / f"j.{kind}")
    (folder / "README").touch()
    (folder / "k.txt").touch()
    for path in folder.iterdir():
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return folder


@pytest.mark.parametrize("second", [-1, 1_600_000_000])
def test_a_picture_without_a_date_has_the_second_in_which_it_was_written(tmp_path, second):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    os.utime(path, ns=(0, second * 10**9 + 999_999_999))
    assert open_image(path).photo == Photo(datetime.fromtimestamp(second))


@pytest.mark.parametrize("clock", ["24:00:00", "23:59:60"])
def test_the_day_is_known_where_the_clock_is_not(tmp_path, clock):
    exif = exif_of()
    exif.get_ifd(34665)[36867] = f"2019:07:01 {clock}"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").photo.taken_at == datetime(2019, 7, 1)


@pytest.mark.parametrize("few", [0, 100], ids=["in worker processes", "here"])
def test_every_file_is_accounted_for_by_name(phone, tmp_path, fake_model, few, monkeypatch):
    monkeypatch.setattr("imgsearch_es.indexing.read._FEW", few)
    with ImageIndex(tmp_path / "a.duckdb", model="fake", gps=True) as index:
        report = index.add(phone, video=True)
        found = {d.filename: d for d in index.store.documents()}
        assert sorted(found) == [
            "a.jpg", "b.heic", "c.dng", "d.png", "e.mp4", "h.tga", "i.psd", "j.dds", "j.pcx",
            "j.qoi", "j.sgi",
        ]  # fmt: skip
        assert [(Path(r.uri).name, r.reason[:20]) for r in report.rejected] == [
            ("g.jpg", "damaged JPEG picture")
        ]
        assert report.passed_over == {".pdf": 1, ".txt": 1, "without extension": 1}
        assert str(report).endswith("passed over: 1 without extension, 1 .pdf, 1 .txt")
        place = (48.14, -11.58)
        assert found["a.jpg"].photo == Photo(
            TAKEN, "X100V", "23mm F2", place, "Am Strand", ("Meer", "Urlaub")
        )
        assert found["b.heic"].photo == Photo(TAKEN, "X100V", "23mm F2", place)
        assert found["c.dng"].photo == Photo(TAKEN, "X100V")
        assert found["e.mp4"].photo == Photo(TAKEN)
        written = datetime.fromtimestamp(1_600_000_000)
        assert {found[name].photo for name in ("d.png", "h.tga")} == {Photo(written)}
        sizes = {name: (d.width, d.height) for name, d in found.items()}
        assert (sizes["c.dng"], sizes["b.heic"], sizes["i.psd"]) == ((48, 64), (64, 48), (8, 6))
        for document in found.values():
            color = open_image(document.uri).image.resize((1, 1)).getpixel((0, 0))
            assert color[0] > 200 > 60 > max(color[1:]), document.filename
        assert index.verify(files=True, sample=20).is_whole
        hits = index.search(text="taken:2019 near:48.14,-11.58,1km camera:x100*")
        assert sorted(hit.filename for hit in hits) == ["a.jpg", "b.heic"]
        jpeg = next(hit for hit in hits if hit.filename == "a.jpg")
        assert jpeg.to_dict()["photo"]["keywords"] == ["Meer", "Urlaub"]
        assert hits.facets(["year", "camera"]) == {
            "year": [{"value": "2019", "count": 2}], "camera": [{"value": "X100V", "count": 2}],
        }  # fmt: skip
        with pytest.raises(QueryError, match="leave out"):
            index.search(image=str(phone / "a.jpg"), sort="taken_at")
        assert index.search(where={"metadata.no": 1}).query.hints == (
            "no picture has the field metadata.no",
        )


def test_without_the_packages_each_says_what_to_install(
    phone, tmp_path, fake_model, monkeypatch, run
):
    for name in ("pillow_heif", "rawpy", "av"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("imgsearch_es.indexing.report.find_spec", lambda name: None)
    with ImageIndex(tmp_path / "a.duckdb", model="fake", exif=False) as index:
        report = index.add([phone, phone / "e.mp4"])
        why = {Path(entry.uri).name: entry.reason for entry in report.rejected}
        for name, extra in (("b.heic", "heif"), ("c.dng", "raw"), ("e.mp4", "video")):
            assert pip_install(extra) in why[name]
        assert all(d.photo == Photo() for d in index.store.documents())
        again = index.add(phone)
        assert again.passed_over[".mp4"] == 1
        assert "1 .mp4" in str(again)
        assert f"--video indexes one frame of each video, with {pip_install('video')}" in str(again)
        said = run("rejected", "-i", index.location).stdout
        assert "4 rejected: 1 .heic, 1 .dng, 1 .mp4, 1 .jpg\n" in said


def test_what_is_kept_is_remembered_and_changed_by_reindex(phone, tmp_path, fake_model):
    place = tmp_path / "a.duckdb"
    with ImageIndex(place, model="fake") as index:
        index.add(phone / "a.jpg", labels="x")
        assert index.get(phone / "a.jpg").photo.place is None
        assert "reindex --gps" in index.search(where="near:48.14,-11.58,1km").query.hints[0]
        with pytest.raises(ConfigurationError, match="keeps EXIF without places"):
            ImageIndex(place, gps=True).count()
        for options, kept in (({"gps": True}, 1), ({"exif": False}, 0), ({"exif": True}, 1)):
            index.reindex(**options)
            document = index.get(phone / "a.jpg")
            assert bool(document.photo.camera) == bool(kept)
            assert (document.photo.place is not None) == ("gps" in options)
            assert document.labels == ("x",)
            assert index.verify().is_whole
            if kept:
                index.export(tmp_path / "a.jsonl", force=True)
            index.reindex(terms=7 + kept)
            assert index.get(phone / "a.jpg").photo == document.photo
    with ImageIndex(tmp_path / "b.duckdb", model="fake", terms=7, exif=False) as other:
        other.create()
        assert other.import_(tmp_path / "a.jsonl").added == 1
        assert other.get(phone / "a.jpg").photo == Photo()
    with pytest.raises(ConfigurationError, match="leave out exif=False"):
        ImageIndex(place, model="fake", exif=False, gps=True).count()


def test_every_kind_of_file_is_read_again(phone, tmp_path, fake_model, run):
    folder = Path(shutil.copytree(phone, tmp_path / "phone"))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(folder / "a.jpg", "in/a.jpg")
    place = tmp_path / "a.duckdb"
    with ImageIndex(place, model="fake", exif=False) as index:
        index.add([folder, tmp_path / "a.tar"], video=True)
        assert {d.photo for d in index} == {Photo()}
        assert index.reindex(gps=True).unread == []
        with ImageIndex(tmp_path / "b.duckdb", model="fake", gps=True) as other:
            other.add([folder, tmp_path / "a.tar"], video=True)
            assert {d.uri: d.photo for d in index} == {d.uri: d.photo for d in other}
        before = {d.filename: d.photo for d in index}
        (folder / "a.jpg").write_bytes((folder / "d.png").read_bytes())
        (folder / "b.heic").unlink()
    said = run("reindex", "--exif", "-i", place).stderr
    assert said == (
        f"imgsearch: EXIF and XMP cannot be read again of {folder}/a.jpg (the file has changed "
        "since it was indexed), and of 1 more: kept as they were\n"
    )
    with ImageIndex(place) as index:
        for document in index:
            assert document.photo == replace(before[document.filename], place=None)
        assert index.verify().is_whole


def test_hostile_blocks_cost_nothing(tmp_path):
    block = b"Exif\0\0" + exif_of().tobytes().removeprefix(b"Exif\0\0")
    for place in range(6, len(block)):
        for byte in (0, 1, 0x7F, 0xFF):
            changed = block[:place] + bytes([byte]) + block[place + 1 :]
            read_photo({"exif": changed}, b"", "sha256:" + "0" * 64).check()
        read_photo({"exif": block[:place]}, b"", "sha256:" + "0" * 64).check()
    bomb = b"<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><x>&b;</x>"
    inner = XMP[XMP.find(b"<x:xmpmeta") :].replace(b"Meer", b"&b;").decode()
    bomb16 = f"<!DOCTYPE x [<!ENTITY b 'b'>]>{inner}".encode("utf-16-be")
    for xmp in (
        bomb,
        bomb16,
        b"<",
        XMP[:300],
        b"\xff" * 99,
        XMP + b" " * (2 << 20),
        b"<a>" * 100_000,
    ):
        assert read_photo({"xmp": xmp}, b"", "sha256:" + "0" * 64) == Photo()
    began, nested = time.process_time(), XMP.find(b"<rdf:Description")
    one = b"<rdf:Description xmlns:d='http://purl.org/dc/elements/1.1/'><d:subject>"
    other = b"</d:subject></rdf:Description>"
    deep = XMP[:nested] + one * 8000 + other * 8000 + b"</rdf:RDF></x:xmpmeta>"
    assert read_photo({"xmp": deep}, b"", "sha256:" + "0" * 64) == Photo()
    assert time.process_time() - began < 1
    many = Image.Exif()
    many[272], many[270] = "x" * 60_000, "\ud800 \0 caption"
    found = read_photo({"exif": many.tobytes()}, b"", "<upload>")
    assert len(found.camera) == 2000


@pytest.mark.parametrize(
    "known",
    [
        *({"place": value} for value in ({"lat": 1, "lon": 2}, [1], "12", 5, [math.nan, 1])),
        *({"keywords": value} for value in ("abc", {"a": 1}, [None], 5)),
        *({"camera": value} for value in ("\ud800", ["a"], "x" * 2001)),
        *({"taken_at": value} for value in (5, "", "2019-01-01T00:00:00Z")),
    ],
)
def test_what_no_index_can_hold_is_refused(known):
    with pytest.raises((IndexError, TypeError, ValueError)):
        Photo.from_dict(known)


def test_a_video_is_one_file(phone, tmp_path, monkeypatch):
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile e.mp4\n")
    (tmp_path / "e.mp4").write_bytes((phone / "e.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match="damaged VIDEO"):
        open_image(tmp_path / "list.mp4")


def test_a_video_whose_tags_are_no_utf_8_is_read(phone):
    data = (phone / "e.mp4").read_bytes()
    assert b"Lavf" in data  # who made it
    found = open_image(data.replace(b"Lavf", "L\xe4vf".encode("latin-1")), uri="old.mp4")
    assert found.image.size == (64, 48)


@pytest.mark.parametrize("name", ["b.heic", "c.dng", "e.mp4"])
def test_a_size_is_looked_at_before_it_is_decoded(phone, name):
    with pytest.raises(ImageError, match="64 x 48 pixels are over the limit"):
        open_image(phone / name, limits=Limits(max_pixels=1000))
    data = (phone / name).read_bytes()
    for length in range(0, len(data), max(1, len(data) // 40)):
        with suppress(ImageError):
            open_image(data[:length], uri=str(phone / name))


def test_hits_leave(index, run, asked, tmp_path, place):
    odd = {"n": 7, "x": 0.1, "yes": True, "day": "2024-05-01", "all": [1, {"a": "b"}]}
    odd |= {
        "t": "7",
        "zip": "007",
        "q": '"7"',
        "no": "null",
        "nan": "NaN",
        "big": str(2**70),
        "j": "[1]",
    }
    (hit,) = index.search(text="cat", k=1)
    index.update(hit.id, metadata=odd)
    hits = index.search(text="cat")
    names = [hit.filename for hit in hits]
    copies = hits.copy_to(tmp_path / "copies")
    assert [path.read_bytes() for path in copies] == [hit.path.read_bytes() for hit in hits]
    assert hits.copy_to(tmp_path / "copies") == copies
    (tmp_path / "copies" / names[0]).write_bytes(b"another")
    assert hits[:1].copy_to(tmp_path / "copies")[0].stem == f"{Path(names[0]).stem} (2)"
    (link, *_) = hits[:2].link_to(tmp_path / "links")
    assert link.is_symlink()
    assert link.resolve() == hits[0].path.resolve()
    some = hits[1:3]
    assert ([hit.rank for hit in some], some.total) == ([2, 3], hits.total)
    assert len(some.to_dict()["hits"]) == 2
    frame = hits.to_frame()
    assert list(frame["filename"]) == names
    some.to_frame().to_parquet(tmp_path / "hits.parquet")  # where no hit has metadata
    hits.to_csv(tmp_path / "hits.csv")
    with ImageIndex(tmp_path / "again.duckdb", model="fake") as other:
        assert other.add(PictureList(tmp_path / "hits.csv")).added == len(hits)
        assert other.get(hits[0].path).labels == hits[0].labels
        assert repr(other.get(hits[0].path).metadata) == repr(odd)
    gone = hits[-1].path
    gone.unlink()
    with pytest.raises(SourceError, match=rf"1 of {len(hits)} pictures could not be copied to"):
        hits.copy_to(tmp_path / "later")
    assert len(list((tmp_path / "later").iterdir())) == len(hits) - 1
    with pytest.raises(SourceError, match="cannot make the folder"):
        hits.copy_to(tmp_path / "hits.csv")
    printed = run("search", "cat", "-i", place, "-k", "3", "-0").stdout
    assert printed == "".join(f"{hit.path}\0" for hit in hits[:3])
    assert run("search", "cat", "-i", place, "--all", "--paths").stdout.splitlines() == [
        str(hit.path) for page in index.pages(text="cat") for hit in page
    ]
    assert run("search", "cat", "-i", place, "-k", "3", "--csv").stdout == hits[:3].to_csv()
    shown = run("search", "cat", "-i", place, "-k", "2", "--link-to", tmp_path / "two").stdout
    assert f"2 pictures in {tmp_path / 'two'}" in shown
    assert "one" in run("search", "cat", "-i", place, "--csv", "--json", code=2).stderr


def test_conditions_alone_are_listed_and_an_index_is_a_collection(index, run, asked, place, photos):
    listed = asked("search", "label:cats", "-i", place)
    assert listed["total"] == len(listed["hits"]) == 6
    assert {hit["score"] for hit in listed["hits"]} == {0.0}
    by_name = asked("search", "--where", "label=cats", "-i", place, "--sort", "filename")
    names = [Path(hit["uri"]).name for hit in by_name["hits"]]
    assert names == sorted(names)
    assert "taken" in run("search", "label:cats", "-i", place).stdout
    assert "no sorting by" in run("search", "cat", "-i", place, "--sort", "size", code=1).stderr
    assert len(index) == index.count() == len(list(index))
    assert photos / "cats" / "cat.0.png" in index
    assert "nothing.png" not in index
    assert index


def test_a_folder_that_moved(index, photos, fake_model, run, place):
    key = photos / "cats" / "cat.0.png"
    index.update(key, labels=["mine"], metadata={"a": 1})
    count, calls = index.count(), fake_model.calls
    (photos / "cats").rename(photos / "felines")
    report = index.add(photos)
    assert (report.moved, report.added, report.removed, index.count()) == (6, 6, 0, count)
    assert "6 of them moved from paths that are gone" in str(report)
    assert key not in index
    moved = index.get(photos / "felines" / "cat.0.png")
    assert (moved.labels, moved.metadata) == (("mine",), {"a": 1})
    (photos / "felines").rename(photos / "cats 2")
    said = run("relocate", photos / "felines", photos / "cats 2", "-i", place).stdout
    assert said == "6 moved\n"
    assert index.get(photos / "cats 2" / "cat.0.png").metadata == {"a": 1}
    assert index.add(photos).unchanged == count
    assert fake_model.calls == calls
    assert "cannot find" in run("relocate", photos, photos / "no", "-i", place, code=1).stderr
    assert "nothing to move at" in run("relocate", "/nowhere", photos, "-i", place).stdout
    assert run("remove", photos / "cats 2" / "cat.?.png", "-i", place).stdout == "6 removed\n"
    assert index.remove([photos, photos]) == count - 6
    assert index.verify().is_whole


@pytest.mark.parametrize(
    ("uri", "unmounted"),
    [
        *((f"{folder}/no-such/a.jpg", True) for folder in ("/home", "/mnt")),
        (f"{Path(__file__).parent}/no-such/a.jpg", False),
    ],
)
def test_what_another_machine_or_a_drive_has_is_not_taken_for_moved(uri, unmounted):
    assert looks_unmounted(uri) == unmounted


def test_what_makes_no_sense_of_lists_is_refused(index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hits = index.search(where="width>=1")
    for folder in ("", "a\0b"):
        with pytest.raises(SourceError, match="the folder"):
            hits.copy_to(folder)
    assert not list(tmp_path.glob("*.png"))
    with pytest.raises(QueryError, match="feedback is of what scores"):
        index.search(where="width>=1", feedback=2)
    index.update(hits[0].id, metadata={"long": ["x" * 30_000] * 6})
    index.search(where="width>=1").to_csv("all.csv")
    assert index.add(PictureList("all.csv")).rejected == []


@pytest.mark.parametrize("together", [1, 500])
def test_relocating_loses_nothing(index, photos, monkeypatch, together):
    monkeypatch.setattr(relocating, "_TOGETHER", together)

    def names() -> dict[str, str]:
        return {os.path.relpath(d.uri, photos): d.sha256 for d in index}

    cats, inner = photos / "cats", photos / "cats" / "more"
    before = names()
    assert index.relocate(photos / "dogs" / ".." / "cats", cats) == 0
    for old, new, says in [
        (cats, cats / "cat.0.png", "two folders"),
        (cats / "cat.0.png", cats, "two files"),
        (cats / "cat.0.png", cats / "cat.1.png", "another document of"),
    ]:
        with pytest.raises(SourceError, match=says):
            index.relocate(old, new)
    inner.mkdir()
    assert names() == before
    assert index.relocate(cats, inner) == 6
    assert names() == {k.replace("cats/", "cats/more/"): v for k, v in before.items()}
    assert (index.relocate("/", "/"), index.relocate(inner, cats)) == (0, 6)
    assert names() == before
    assert index.verify().is_whole


def test_what_lies_together_in_a_file_moves_together(new, photos, tmp_path, monkeypatch):
    """For a few that are here and there DuckDB reads the deep features of all."""
    old, moved, change = tmp_path / "old", list[str](), new.store.change
    old.mkdir()
    for path, name in zip(sorted(photos.glob("cats/*.png")), ("bb", "a", "ccc"), strict=False):
        new.add(shutil.copy(path, old / f"{name}.png"))
    monkeypatch.setattr(new.store, "change", lambda ids, how: moved.extend(ids) or change(ids, how))
    there = [document.id for document in new]
    assert new.relocate(old, old.rename(tmp_path / "elsewhere")) == 3
    assert moved == there


def test_rejected_pictures_move_and_keep_what_was_said_of_them(index, photos, tmp_path):
    """They stayed in the ledger at places that nobody reads again, and labels with them."""
    old, new = photos / "cats", tmp_path / "felines"
    picture, broken = (old / "cat.0.png").read_bytes(), old / "broken.png"
    broken.write_bytes(b"no picture")
    index.update(old / "cat.0.png", labels=["mine"])
    (old / "cat.0.png").write_bytes(b"nor this")
    index.add(photos)
    old.rename(new)
    assert index.relocate(old, new) == 5
    assert {entry.uri for entry in index.rejected()} == {
        str(new / n) for n in ("broken.png", "cat.0.png")
    }
    (new / "cat.0.png").write_bytes(picture)
    index.add(new)
    assert index.get(new / "cat.0.png").labels == ("mine",)
    assert [entry.uri for entry in index.rejected()] == [str(new / "broken.png")]
    assert index.verify(files=True).is_whole


def test_what_is_in_archives_moves_with_them(index, photos, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    with tarfile.open(old / "a.tar", "w") as archive:
        archive.add(photos / "cats" / "cat.0.png", "in/c.png")
    shutil.copy(photos / "cats" / "cat.1.png", old)
    index.add([old, old / "a.tar"])
    index.update(f"tar://in/c.png::{old}/a.tar", labels=["mine"])
    old.rename(new)
    assert index.relocate(old, new) == 2
    assert index.get(f"tar://in/c.png::{new}/a.tar").labels == ("mine",)
    (new / "a.tar").rename(tmp_path / "b.tar")
    assert index.relocate(new / "a.tar", tmp_path / "b.tar") == 1
    document = index.get(f"tar://in/c.png::{tmp_path}/b.tar")
    assert (document.labels, document.filename) == (("mine",), "c.png")
    assert index.add(tmp_path / "b.tar").unchanged == 1
    assert index.verify(files=True).is_whole


@pytest.mark.parametrize(
    "act",
    [
        lambda index: index.add("a\0b"),
        lambda index: index.relocate("a\0b", "/"),
        lambda index: index.remove("a\0b"),
        lambda index: index.get("a\0b"),
        lambda index: index.search(image="a\0b.jpg"),
        lambda index: index.search("a\0b.jpg"),
        lambda index: index.add(PictureList("a\0b")),
        lambda index: index.export("a\0b.jsonl"),
        lambda index: index.import_("a\0b.jsonl"),
        lambda index: index.export_features("a\0b.csv"),
        lambda index: index.import_features("a\0b.csv"),
        lambda index: index.learn_whitening("a\0b.npz"),
        lambda index: index.search("cat").to_html("a\0b.html"),
        lambda index: index.search("cat").to_csv("a\0b.csv"),
        lambda index: index.run(["cat"]).to_trec("a\0b"),
        lambda index: ImageIndex("a\0b.duckdb").count(),
        lambda index: ImageIndex("x.duckdb", weights="a\0b.h5").analyzer,
        lambda index: ImageIndex("x.duckdb", analyzer="a\0b.toml").analyzer,
    ],
)
def test_a_null_character_is_one_sentence(index, act):
    with pytest.raises(ImgsearchError):
        act(index)


def test_removing_by_a_pattern_takes_no_more_than_it_names(index, photos, monkeypatch):
    count, cats = index.count(), photos / "cat?"
    (photos / "cats").rename(photos / "cat1")
    shutil.copytree(photos / "cat1", cats)
    assert index.add(photos, prune=True).added == 12
    monkeypatch.chdir(cats)
    assert index.remove("cat.*") == 6
    monkeypatch.undo()
    assert index.count() == count
    assert index.add(photos).added == 6
    assert index.remove(cats) == 6
    assert index.remove(photos / "cat?" / "*") == 6
    assert index.count() == count - 6


def test_a_copy_of_a_file_on_a_drive_that_is_not_mounted_is_a_copy(index, photos):
    for path in (photos / "dogs").iterdir():
        path.rename(photos / "cats" / path.name)
    report = index.add(photos)
    assert (report.moved, report.added) == (0, 6)
