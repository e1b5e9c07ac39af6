"""Pictures in tar files: found, indexed, and opened again."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from imgsearch_es import open_image
from imgsearch_es.errors import ImageError, SourceError
from imgsearch_es.pictures.archives import is_archive, member_uri, split_uri
from imgsearch_es.pictures.files import Limits, content_hash, filename, read_bytes, to_uri
from tests.fakes import noise


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise(seed, 12, 9).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shard(tmp_path):
    """A shard as WebDataset writes it; the sidecars come before and after the picture."""
    return write_tar(
        tmp_path / "shard.tar",
        {
            "a/001.json": json.dumps({"camera": "X", "n": 3}).encode(),
            "a/001.png": png(1),
            "a/001.txt": "a café\n".encode(),
            "a/002.png": png(2),
            "a/002.cls": b"7\n",
            "b/001.seg.png": png(3),
            "notes.md": b"no picture",
            "._001.png": b"what macOS adds",
        },
    )


def test_members_are_indexed_with_what_is_beside_them(new, shard):
    report = new.add(shard)
    assert (report.added, report.rejected) == (3, [])
    first = new.get(f"tar://a/001.png::{shard}")
    assert (first.filename, first.labels) == ("001.png", ())
    assert dict(first.metadata) == {"camera": "X", "n": 3, "txt": "a café"}
    assert new.get(f"tar://a/002.png::{shard}").labels == ("7",)
    assert new.get(f"tar://b/001.seg.png::{shard}").metadata == {}
    again = new.add(shard)
    assert (again.unchanged, again.found) == (3, 3)


def test_an_indexed_member_is_opened_again(new, shard, tmp_path):
    new.add(shard)
    uri = f"tar://a/002.png::{shard}"
    picture = open_image(uri)
    assert (picture.uri, picture.sha256) == (uri, content_hash(uri))
    assert read_bytes(uri) == png(2)
    hits = new.search(image=uri, k=3)
    assert hits[0].uri == uri
    hits.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count('src="data:image/jpeg') == 1 + len(hits)
    assert new.search(image=uri, region=(0, 0, 0.5, 0.5)).query.pictures


def test_an_archive_that_changes_is_read_again(new, shard):
    new.add(shard)
    changed = {"a/001.png": png(8), "a/003.png": png(9)}
    write_tar(shard, changed)
    report = new.add(shard)
    assert (report.added, report.updated) == (1, 1)
    with pytest.raises(ImageError, match=r"a/002\.png.*: the archive has no such file"):
        read_bytes(f"tar://a/002.png::{shard}")


def test_of_two_members_with_one_name_the_last_counts(new, tmp_path):
    shard = write_tar(tmp_path / "twice.tar", {"a.png": png(1)})
    write_tar(shard, {"a.png": png(2)}, "a")
    assert new.add(shard).added == 1
    assert read_bytes(f"tar://a.png::{shard}") == png(2)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.json", b"{", "a.json beside it is no JSON: "),
        ("a.json", b"[" * 100_000, "a.json beside it is no JSON: "),
        ("a.json", b'{"x": {"y": NaN}}', "metadata.x.y is nan, which is no number of JSON"),
        ("a.json", b"[1]", "a.json beside it is no JSON object"),
        ("a.txt", b"\xff", "a.txt beside it is no UTF-8"),
        ("a.txt", b"x" * (1 << 20) + b"x", "a.txt beside it is longer than 1,048,576 bytes"),
    ],
)
def test_a_wrong_sidecar_rejects_its_picture_only(new, tmp_path, name, data, reason):
    shard = write_tar(tmp_path / "s.tar", {"a.png": png(1), name: data, "b.png": png(2)})
    report = new.add(shard)
    assert report.added == 1
    (entry,) = report.rejected
    assert entry.uri == f"tar://a.png::{shard}"
    assert entry.reason.startswith(reason)


def test_a_name_that_is_no_uri_is_rejected(new, tmp_path):
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w", errors="surrogateescape") as archive:
        for name in ("a::b.png", os.fsdecode(b"\xff.png"), "é\0.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png(1))
            archive.addfile(info, io.BytesIO(png(1)))
    reasons = sorted(entry.reason for entry in new.add(shard).rejected)
    assert reasons == [
        "'\\udcff.png' in it cannot be indexed: its name is no UTF-8",
        "'a::b.png' in it cannot be indexed: its name has '::', which separates a member from "
        "its archive",
        "'é\\x00.png' in it cannot be indexed: its name has a null character",
    ]


def test_what_is_no_tar_file_is_rejected_and_the_next_one_is_read(new, shard, tmp_path):
    compressed = write_tar(tmp_path / "z.tar", {"a.png": png(1)}, "w:gz")
    text = tmp_path / "t.tar"
    text.write_text("no archive" * 100)
    report = new.add([compressed, text, shard])
    assert report.added == 3
    reasons = {entry.uri: entry.reason for entry in report.rejected}
    assert "compressed ones are not: decompress it" in reasons[str(compressed)]
    assert "not a plain tar file" in reasons[str(text)]


def test_a_truncated_archive_is_rejected(new, shard):
    whole = shard.read_bytes()
    shard.write_bytes(whole[: whole.index(png(2)) + 40])
    (entry,) = new.add(shard).rejected
    assert (entry.uri, entry.sha256) == (str(shard), "")  # so it is tried again
    assert "unexpected end of data" in entry.reason
    shard.write_bytes(whole)
    assert new.add(shard).added == 3
    assert new.rejected() == []
    shard.write_bytes(whole[:700])
    assert len(new.add(shard).rejected) == 1
    shard.write_bytes(whole)
    assert (new.add(shard).unchanged, new.rejected()) == (3, [])


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, content: bytes = b"") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size or len(content), kind
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


PAX = tarfile.XHDTYPE
HOSTILE = {
    "a member that goes back": header("b.png", -512),
    "a record that goes back": header("x", kind=PAX, content=b"14 size=-1024\n") + header("b.png"),
    "a number too large": header("b.png", 1 << 80),
    "a number that is none": header("x", kind=PAX, content=b"21 GNU.sparse.map=x,\n") + header("b"),
    "a long name without end": header("x", 1 << 40, tarfile.GNUTYPE_LONGNAME),
    "many long names": header("x", kind=tarfile.GNUTYPE_LONGNAME, content=b"x\0") * 3000,
    "a damaged header": b"x" + header("b.png", content=b"x")[1:],
    "a damaged record": header("x", kind=PAX, content=b"0 a=b\n") + header("b.png"),
}


@pytest.mark.parametrize("bad", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_rejected_whole(new, tmp_path, bad):
    shard = write_tar(tmp_path / "s.tar", {"a.png": png(1)})
    first = header("a.png", content=png(1))
    shard.write_bytes(first + bad + header("c.png", content=png(2)) + bytes(1024))
    report = new.add(shard)
    assert (report.added, [entry.uri for entry in report.rejected]) == (0, [str(shard)])
    assert "or a damaged one" in report.rejected[0].reason


def test_sidecars_that_are_read_are_not_passed_over(new, tmp_path):
    files = {"./a/1.PNG": png(1), "./a/1.cls": b"\xef\xbb\xbftom\r\n", "./a/1.json": b'{"x": 1}'}
    shard = write_tar(tmp_path / "s.tar", {**files, "./a/2.cls": b"tim", "./1.txt": b"other"})
    report = new.add(shard)
    assert (report.added, report.passed_over) == (1, {".cls": 1, ".txt": 1})
    found = new.get(f"tar://./a/1.PNG::{shard}")
    assert (found.labels, found.metadata) == (("tom",), {"x": 1})


def test_a_member_without_a_name_is_passed_over(new, tmp_path):
    shard = tmp_path / "s.tar"
    shard.write_bytes(header("", content=b"x") + header("a.png", content=png(1)) + bytes(1024))
    report = new.add(shard)
    assert (report.added, report.passed_over) == (1, {"without extension": 1})


def test_links_in_an_archive_are_not_followed(new, tmp_path):
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w") as archive:
        info = tarfile.TarInfo("link.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert new.add(shard).found == 0


def test_a_missing_archive_and_a_limit(new, shard, tmp_path):
    with pytest.raises(SourceError, match=r"cannot find .*none\.tar"):
        new.add(tmp_path / "none.tar")
    with pytest.raises(ImageError, match="larger than the limit of 10 bytes"):
        read_bytes(f"tar://a/001.png::{shard}", Limits(max_bytes=10))
    with pytest.raises(ImageError, match=r"its archive cannot be opened: no such file"):
        read_bytes(f"tar://a.png::{tmp_path}/none.tar")


def test_an_archive_at_a_url(new, shard):
    import fsspec

    with fsspec.open("memory://shards/one.tar", "wb") as file:
        file.write(shard.read_bytes())
    assert new.add("memory://shards/one.tar").added == 3
    uri = "tar://a/001.png::memory://shards/one.tar"
    assert new.get(uri).metadata["camera"] == "X"
    assert open_image(uri).width == 12


def test_uris(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = member_uri("a/b.png", "/x::y/s.tar")
    assert split_uri(uri) == ("a/b.png", "/x::y/s.tar")
    assert to_uri("tar://a.png::s.tar") == f"tar://a.png::{tmp_path}/s.tar"
    assert to_uri(uri) == uri
    assert filename(uri) == "b.png"
    assert is_archive("/a/S.TAR")
    assert not is_archive(uri)
    assert split_uri("/a/b.tar") is None
