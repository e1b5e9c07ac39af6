from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import logging
import os
import pathlib
import random
import socket
import struct
import sys
import threading
import warnings
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from imgsearch_es.errors import ConfigurationError, ImageError, MissingDependencyError, SourceError
from imgsearch_es.pictures import addresses, files, images, sources
from imgsearch_es.pictures.addresses import with_credentials
from imgsearch_es.pictures.files import (
    Limits,
    content_hash,
    picture_id,
    read_bytes,
    to_path,
    to_uri,
)
from imgsearch_es.pictures.images import open_image
from imgsearch_es.pictures.sources import find_images
from tests.serving import answering

FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000"]
ORIENTATION = 274


def photo(width: int = 40, height: int = 30) -> Image.Image:
    """A smooth gradient with a red upper left corner, so that no rotation equals another."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 64 + 90], axis=-1)
    pixels[: height // 3, : width // 3] = (255, 0, 0)
    return Image.fromarray(pixels.astype(np.uint8))


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def save(path: pathlib.Path, data: bytes | None = None) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(photo()) if data is None else data)
    return path


def pixels(picture: images.Picture) -> np.ndarray:
    assert picture.image.mode == "RGB"
    assert picture.image.size == (picture.width, picture.height)
    return np.asarray(picture.image)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    )


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block.tobytes()


# --- URIs ------------------------------------------------------------------------------------


def test_a_path_becomes_absolute_and_keeps_symbolic_links(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    here = str(tmp_path)
    assert to_uri("a b.jpg") == f"{here}/a b.jpg"
    assert to_uri("link/../x/./a.jpg") == f"{here}/x/a.jpg"
    assert to_uri("link/a.jpg") == f"{here}/link/a.jpg"
    assert to_uri("~/a.jpg") == f"{here}/home/a.jpg"
    assert to_uri(pathlib.Path("a.jpg")) == to_uri(b"a.jpg") == f"{here}/a.jpg"
    assert to_uri("line\nbreak%20.jpg") == f"{here}/line\nbreak%20.jpg"


def test_file_urls_become_paths():
    assert to_uri("file:///a%20b/%C3%A9.jpg") == "/a b/é.jpg"
    assert to_uri("FILE://localhost/a.jpg") == "/a.jpg"
    with pytest.raises(ConfigurationError, match="file:///absolute/path"):
        to_uri("file://server/a.jpg")


@pytest.mark.parametrize(
    "url", ["s3://b/a%20b.jpg", "memory://x", "zip://a.jpg::/z.zip", "sha256:" + "0" * 64]
)
def test_other_urls_stay_as_they_are_and_have_no_path(url):
    assert to_uri(url) == url
    assert to_path(url) is None


def test_a_name_that_is_not_utf8_is_percent_encoded_and_comes_back():
    uri = to_uri(b"/photos/caf\xe9 1.jpg")
    assert uri == "file:///photos/caf%E9%201.jpg"
    assert os.fsencode(to_path(uri)) == b"/photos/caf\xe9 1.jpg"
    assert to_uri(uri) == uri
    assert files.filename(uri) == "caf\ufffd 1.jpg"


@pytest.mark.parametrize("source", ["", b"", "\ud800", "nul\0.jpg", 3, None])
def test_what_is_no_path_is_a_configuration_error(source):
    with pytest.raises(ConfigurationError):
        to_uri(source)


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_every_path_survives_its_uri(name):
    uri = to_uri(b"/" + name)
    uri.encode("utf-8")
    assert to_uri(uri) == uri
    assert os.fsencode(to_path(uri)) == os.path.abspath(b"/" + name)  # noqa: PTH100


def test_what_is_above_a_link_is_not_what_its_letters_say(tmp_path, monkeypatch):
    save(tmp_path / "elsewhere/x.png")
    (tmp_path / "elsewhere/below").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/below")
    monkeypatch.chdir(tmp_path)
    assert to_uri("link/../x.png") == str(tmp_path / "elsewhere/x.png")
    (tmp_path / "x.png").symlink_to("elsewhere/x.png")
    assert to_uri("elsewhere/../x.png") == to_uri("x.png") == str(tmp_path / "x.png")


def test_picture_id_is_the_start_of_the_hash_of_the_uri():
    assert picture_id("/a.jpg") == hashlib.sha256(b"/a.jpg").hexdigest()[:32]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/p/a b.jpg", "a b.jpg"),
        ("s3://bucket/caf%C3%A9.jpg", "café.jpg"),
        ("https://h/a.jpg?width=10#x", "a.jpg"),
        ("zip://in/a.jpg::file:///z.zip", "a.jpg"),
        ("sha256:" + "0" * 64, "sha256:" + "0" * 64),
    ],
)
def test_filename_is_the_readable_last_part(uri, name):
    assert files.filename(uri) == name


# --- finding ---------------------------------------------------------------------------------


def found(*arguments, top: pathlib.Path, errors: list[ImageError] | None = None) -> list[str]:
    sink = [] if errors is None else errors
    uris = list(find_images(*arguments, on_error=sink.append))
    if errors is None:
        assert not sink
    return [os.path.relpath(os.fsdecode(to_path(uri)), top) for uri in uris]


def test_pictures_are_found_by_extension_or_signature_and_the_rest_is_passed_over(tmp_path):
    for name in ["b.JPG", "a.png", "phone.heic", "sub/c.tiff", "sub/deep/d.webp"]:
        save(tmp_path / name)
    save(tmp_path / "no_extension")
    save(tmp_path / "wrong.txt")
    save(tmp_path / "empty.png", b"")
    for name in ["notes.txt", "Thumbs.db", "BMW prices"]:
        save(tmp_path / name, b"BMW prices and P1 notes")
    for name in [".hidden.png", ".git/e.png", ".DS_Store"]:
        save(tmp_path / name)
    save(tmp_path / "empty", b"")
    assert found(tmp_path, top=tmp_path) == [
        *("a.png", "b.JPG", "empty.png", "no_extension", "phone.heic", "wrong.txt"),
        *("sub/c.tiff", "sub/deep/d.webp"),
    ]


def test_named_files_are_always_yielded_and_never_twice(tmp_path):
    text = save(tmp_path / "notes.txt", b"text")
    for name in ["a/1.png", "a/2.png", "a/b/3.png"]:
        save(tmp_path / name)
    arguments = [text, tmp_path / "a/b", tmp_path / "a/2.png", tmp_path / "a", tmp_path / "a", text]
    assert found(arguments, top=tmp_path) == ["notes.txt", "a/b/3.png", "a/2.png", "a/1.png"]


def test_links_are_followed_once_and_real_paths_win(tmp_path):
    save(tmp_path / "real/x.png")
    save(tmp_path.parent / f"{tmp_path.name}_outside/y.png")
    (tmp_path / "a_link").symlink_to("real")
    (tmp_path / "real/loop").symlink_to("..")
    (tmp_path / "outside").symlink_to(tmp_path.parent / f"{tmp_path.name}_outside")
    (tmp_path / "file.png").symlink_to("real/x.png")
    assert found(tmp_path, top=tmp_path) == ["file.png", "real/x.png", "outside/y.png"]


def test_broken_links_are_reported_and_the_walk_goes_on(tmp_path, caplog):
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    save(tmp_path / "z.png")
    errors: list[ImageError] = []
    assert found(tmp_path, top=tmp_path, errors=errors) == ["z.png"]
    assert [(pathlib.Path(error.uri).name, error.reason) for error in errors] == [
        ("broken.jpg", "broken link: no such file or directory"),
        ("circle", "broken link: too many levels of symbolic links"),
    ]
    with caplog.at_level(logging.WARNING):
        assert len(list(find_images(tmp_path))) == 1
    assert "broken.jpg: broken link" in caplog.text


def refuse(original: Callable[..., object], name: str) -> Callable[..., object]:
    def wrapper(path, *arguments, **options):
        if name in os.fsdecode(path):
            raise PermissionError(13, "Permission denied", path)
        return original(path, *arguments, **options)

    return wrapper


def test_an_unreadable_folder_is_reported_inside_a_walk_and_raised_when_named(
    tmp_path, monkeypatch
):
    save(tmp_path / "secret/x.png")
    save(tmp_path / "z/y.png")
    monkeypatch.setattr(os, "scandir", refuse(os.scandir, "secret"))
    errors: list[ImageError] = []
    assert found(tmp_path, top=tmp_path, errors=errors) == ["z/y.png"]
    assert [error.reason for error in errors] == ["the folder cannot be listed: permission denied"]
    with pytest.raises(SourceError, match="permission denied"):
        list(find_images(tmp_path / "secret"))


def test_an_unreadable_file_is_passed_over_or_rejected_with_the_reason(tmp_path, monkeypatch):
    save(tmp_path / "secret")
    path = save(tmp_path / "secret.png")
    monkeypatch.setattr(os, "open", refuse(os.open, "secret"))
    assert found(tmp_path, top=tmp_path) == ["secret.png"]
    with pytest.raises(ImageError, match="cannot be opened: permission denied"):
        open_image(path)


@pytest.mark.parametrize("name", ["missing.jpg", "x/" * 3000])
def test_a_named_path_that_does_not_exist_is_an_error_before_anything_is_found(tmp_path, name):
    save(tmp_path / "a.png")
    with pytest.raises(SourceError, match="cannot find"):
        find_images([tmp_path, tmp_path / name])
    with pytest.raises(ImageError):
        open_image(tmp_path / name)


def test_a_picture_from_memory_cannot_be_found_again():
    uri = open_image(photo()).uri
    with pytest.raises(SourceError, match="from memory"):
        find_images(uri)
    with pytest.raises(ImageError, match="from memory"):
        open_image(uri)


def test_fifos_sockets_devices_and_folders_are_never_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo.jpg")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        assert found(tmp_path, top=tmp_path) == []
        assert len(list(find_images(tmp_path / "fifo.jpg"))) == 1
        for name in ["fifo.jpg", "socket.jpg", "/dev/null"]:
            with pytest.raises(ImageError, match="FIFO, socket or device"):
                open_image(name)
    with pytest.raises(ImageError, match="is a folder"):
        open_image(tmp_path)


def test_a_fifo_that_takes_the_place_of_a_file_does_not_block(tmp_path, monkeypatch):
    path, other = save(tmp_path / "a.png"), tmp_path / "fifo"
    os.mkfifo(other)
    original = os.open
    monkeypatch.setattr(os, "open", lambda _path, flags: original(other, flags))
    with pytest.raises(ImageError, match="FIFO"):
        open_image(path)


def test_a_file_that_vanishes_is_rejected(tmp_path):
    path = save(tmp_path / "a.png")
    (uri,) = find_images(tmp_path)
    path.unlink()
    for use in (open_image, read_bytes, content_hash):
        with pytest.raises(ImageError, match="no such file") as caught:
            use(uri)
        assert caught.value.uri == uri


# --- remote ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def memory():
    content = {name: encode(photo()) for name in ["a/2.png", "a/b/3.PNG", "a/1.jpg", "plain"]}
    content |= {"a/notes.txt": b"text", "a/.hidden/x.png": b"", "a/.x.png": b""}
    for name, data in content.items():
        with fsspec.open(f"memory://{name}", "wb") as file:
            file.write(data)


@pytest.mark.usefixtures("memory")
def test_remote_folders_are_listed_and_remote_pictures_opened():
    assert list(
        find_images(["memory://a/b", "memory://a/", "memory://plain", "memory://a/1.jpg"])
    ) == [*("memory://a/b/3.PNG", "memory://a/2.png", "memory://plain", "memory://a/1.jpg")]
    picture = open_image("memory://a/b/3.PNG")
    assert (picture.uri, picture.filename) == ("memory://a/b/3.PNG", "3.PNG")
    assert np.array_equal(pixels(picture), np.asarray(photo()))
    assert content_hash("memory://plain") == picture.sha256
    with pytest.raises(ImageError, match="limit of 9 bytes"):
        read_bytes("memory://plain", Limits(max_bytes=9))


def test_a_picture_in_a_zip_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b/a.png", encode(photo()))
    uri = f"zip://b/a.png::{tmp_path}/a.zip"
    assert list(find_images(f"zip://b::{tmp_path}/a.zip")) == [uri]
    assert open_image(uri).filename == "a.png"


@pytest.mark.usefixtures("memory")
def test_remote_mistakes_are_explained():
    with pytest.raises(SourceError, match="cannot find memory://missing"):
        list(find_images("memory://missing"))
    with pytest.raises(SourceError, match="Protocol not known: foo"):
        list(find_images("foo://x/y"))
    with pytest.raises(ImageError, match="Protocol not known: foo"):
        open_image("foo://x/y.jpg")
    with pytest.raises(ImageError, match="cannot be opened"):
        open_image("memory://missing.jpg")
    for use in (open_image, lambda uri: list(find_images(uri))):
        with pytest.raises(MissingDependencyError, match="Install s3fs"):
            use("s3://bucket/folder")


def test_without_fsspec_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[remote\]"):
        open_image("s3://bucket/a.jpg")


def test_remote_walk_errors_name_the_source(monkeypatch):
    class Broken:
        def isdir(self, path: str) -> bool:
            return True

        def walk(self, path: str, *, on_error: str):
            raise RuntimeError("connection\nreset")

    monkeypatch.setattr(sources, "remote", lambda uri: (Broken(), uri))
    with pytest.raises(SourceError, match="cannot list s3://b: connection reset"):
        list(find_images("s3://b"))


# --- sources in memory -----------------------------------------------------------------------


def test_all_kinds_of_source_give_the_same_picture(tmp_path):
    path = save(tmp_path / "a.png")
    data = path.read_bytes()
    reference = open_image(path)
    assert reference.uri == str(path)
    assert reference.id == picture_id(str(path))
    assert reference.sha256 == content_hash(str(path)) == hashlib.sha256(data).hexdigest()
    assert (reference.width, reference.height, reference.bytes) == (40, 30, len(data))
    assert (reference.format, reference.filename) == ("PNG", "a.png")
    with path.open("rb") as file:
        for source in (str(path), path.as_uri(), data, bytearray(data), io.BytesIO(data), file):
            picture = open_image(source)
            assert picture.sha256 == reference.sha256
            assert np.array_equal(pixels(picture), pixels(reference))
    assert open_image(data).uri == f"sha256:{reference.sha256}"
    assert open_image(data, uri="mine").uri == open_image(path, uri="mine").uri == "mine"


def test_the_file_is_read_once(tmp_path, monkeypatch):
    path, opened, original = save(tmp_path / "a.png"), [], os.open
    monkeypatch.setattr(os, "open", lambda *args: opened.append(args[0]) or original(*args))
    open_image(path)
    assert opened == [str(path)]


def test_arrays_and_pillow_images_are_identified_by_their_rgb_pixels():
    image = photo()
    array = np.asarray(image)
    picture, other = open_image(image), open_image(array)
    assert picture.sha256 == other.sha256
    assert picture.uri == other.uri == f"sha256:{picture.sha256}"
    assert (picture.format, picture.bytes) == ("array", 40 * 30 * 3)
    assert picture.image is not image
    assert open_image(array.transpose(1, 0, 2)).sha256 != picture.sha256
    palette = image.quantize(8)
    assert open_image(palette).sha256 == open_image(palette.convert("RGB")).sha256
    opened = open_image(Image.open(io.BytesIO(encode(image))))
    assert (opened.format, opened.sha256) == ("PNG", picture.sha256)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[0, 51, 255]], np.uint8),
        np.array([[[0], [51], [255]]], np.uint8),
        np.array([[[v, v, v] for v in (0, 51, 255)]], np.uint8),
        np.array([[[v, v, v, 255] for v in (0, 51, 255)]], np.uint8),
        np.array([[0, 0.2, 1]]),
        np.array([[0, 0.2, 1]], np.float32),
        np.array([[0, 0.2, 1]], np.float16),
        np.array([[0, 51 * 257, 65535]], np.uint16),
        np.array([[0, 51 * 257, 65535]], ">u2"),
        np.array([[255, 7, 51, 7, 0]], np.uint8)[:, ::-2],
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_become_8_bit_rgb(array):
    assert pixels(open_image(array)).tolist() == [[[v, v, v] for v in (0, 51, 255)]]


def test_bool_arrays_are_black_and_white_and_alpha_is_laid_on_white():
    assert pixels(open_image(np.array([[True, False]])))[0, :, 0].tolist() == [255, 0]
    assert pixels(open_image(np.array([[[0, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)))[
        0, :, 0
    ].tolist() == [255, 204]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(3, np.uint8), "shape"),
        (np.zeros((2, 2, 2), np.uint8), "shape"),
        (np.zeros((1, 2, 2, 3), np.uint8), "shape"),
        (np.zeros((0, 2), np.uint8), "no content"),
        (np.zeros((2, 2), np.int64), "int64"),
        (np.zeros((2, 2), complex), "complex128"),
        (np.full((2, 2), "x"), "U1"),
        (np.full((2, 2), 1.5), "0..1"),
        (np.full((2, 2), np.nan), "0..1"),
        (np.zeros((9, 9), np.uint8), "over the limit of 80"),
    ],
)
def test_other_arrays_are_refused_with_the_reason(array, reason):
    with pytest.raises(ImageError, match=reason):
        open_image(array, limits=Limits(max_pixels=80))


@pytest.mark.parametrize("source", [None, 3, ["a.jpg"], object()])
def test_what_is_no_source_is_a_configuration_error(source):
    with pytest.raises(ConfigurationError, match=type(source).__name__):
        open_image(source)


def test_sources_that_misbehave_are_image_errors():
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise RuntimeError("disk on fire")

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return b"\0" * size

    closed = Image.open(io.BytesIO(encode(photo())))
    closed.close()
    for source, reason in (
        (io.StringIO("text"), "binary mode"),
        (Broken(), "disk on fire"),
        (Endless(), "larger than the limit"),
        (closed, "closed"),
    ):
        with pytest.raises(ImageError, match=reason):
            open_image(source, limits=Limits(max_bytes=5_000_000))


# --- decoding --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_found_and_decoded_whatever_its_extension(tmp_path, kind):
    options = {"WEBP": {"lossless": True}, "GIF": {}, "AVIF": {"quality": 95}}.get(kind, {})
    path = save(tmp_path / "no_extension", encode(photo(), kind, **options))
    assert found(tmp_path, top=tmp_path) == ["no_extension"]
    picture = open_image(path.rename(tmp_path / "lie.jpg"))
    assert picture.format == kind
    difference = np.abs(pixels(picture).astype(int) - np.asarray(photo()))
    assert difference.mean() < 5
    if kind in ("PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"):
        assert difference.max() == 0


def test_a_plain_jpeg_has_the_pixels_of_pillow():
    for options in [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 10}]:
        data = encode(photo(200, 150), "JPEG", **options)
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(pixels(open_image(data)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    inverse = {**images._UPRIGHT, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = photo() if orientation == 1 else photo().transpose(inverse[orientation])
    picture = open_image(encode(stored, kind, exif=exif(orientation), quality=95))
    assert (picture.width, picture.height) == (40, 30)
    assert np.abs(pixels(picture).astype(int) - np.asarray(photo())).mean() < 6
    assert np.array_equal(pixels(open_image(picture.image)), pixels(picture))  # not turned again


def test_a_pillow_image_is_turned_once():
    source = Image.open(io.BytesIO(encode(photo(), "JPEG", exif=exif(6))))
    assert open_image(source).image.size == (30, 40)
    assert source.size == (40, 30)


@pytest.mark.parametrize("order", ["II", "MM"])
def test_both_byte_orders_of_exif(order):
    o = "<" if order == "II" else ">"
    block = order.encode() + struct.pack(f"{o}HIHHHIHH", 42, 8, 1, ORIENTATION, 3, 1, 6, 0)
    assert open_image(encode(photo(), "JPEG", exif=b"Exif\0\0" + block)).width == 30
    assert open_image(encode(photo(), "WEBP", exif=block)).width == 30


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"junk",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 30,
        b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", ORIENTATION, 3, 1, 99, 0),
        b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHII", ORIENTATION, 5, 99, 1 << 31),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_and_icc_do_not_reject_a_picture(block, kind):
    image = photo()
    data = encode(image, kind, exif=b"Exif\0\0" + block, icc_profile=b"not a profile")
    assert open_image(data).image.size == (40, 30)


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    expected = [[[255, 255, 255], [255, 0, 0]]]
    for kind in ["PNG", "WEBP", "TIFF"]:
        assert pixels(open_image(encode(image, kind, lossless=True))).tolist() == expected
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    assert pixels(open_image(encode(palette, transparency=0))).tolist() == expected
    assert pixels(open_image(encode(palette, "GIF", transparency=0))).tolist() == expected
    half = pixels(open_image(encode(palette, transparency=bytes([128, 255]))))
    assert half.tolist() == [[[127, 127, 127], [255, 0, 0]]]
    for mode, key in [("L", 0), ("RGB", (0, 0, 0))]:
        plain = Image.new(mode, (2, 1))
        plain.putpixel((1, 0), 255 if mode == "L" else (255, 0, 0))
        first = pixels(open_image(encode(plain, transparency=key)))[0, 0]
        assert first.tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "La", "RGBa", "I",
     "F", "LAB"],
)  # fmt: skip
def test_every_mode_of_pillow_becomes_rgb(mode):
    assert pixels(open_image(Image.new(mode, (3, 2)))).shape == (2, 3, 3)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGB", "RGBA", "CMYK", "I", "F", "I;16"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_is_converted_piece_by_piece_as_it_would_be_whole(mode, orientation, monkeypatch):
    values = np.random.default_rng(5).integers(0, 60_000, (50, 70))
    kinds = {"I": np.int32, "F": np.float32, "I;16": np.uint16}
    if mode in kinds:
        image = Image.fromarray(values.astype(kinds[mode]))
    else:
        image = Image.fromarray((values % 251).astype(np.uint8)).convert(mode)
    image.info["exif"] = struct.pack("<2sHIHHHIHH", b"II", 42, 8, 1, 274, 3, 1, orientation, 0)
    whole = open_image(image).image
    monkeypatch.setattr("imgsearch_es.pictures.decoders._TILE", 16)
    assert np.array_equal(open_image(image).image, whole)
    monkeypatch.setattr("imgsearch_es.pictures.decoders._LARGE", 3000)
    monkeypatch.setattr("imgsearch_es.pictures.decoders._REDUCED", 1000)
    small = open_image(image).image
    as_it_is = mode == "RGB" and orientation == 1
    assert small.size == (whole.size if as_it_is else tuple(-(-side // 2) for side in whole.size))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_scaled_not_clipped(kind):
    deep = np.linspace(0, 65535, 256).astype(np.uint16)[None]
    picture = open_image(encode(Image.fromarray(deep), kind))
    assert pixels(picture)[0, :, 1].tolist() == list(range(256))


@pytest.mark.parametrize(
    ("values", "gray"),
    [
        ([0, 0.2, 1], [0, 51, 255]),
        (np.array([-100, 0, 100], np.int32), [0, 128, 255]),
        ([0, 51, 255], [0, 51, 255]),
        ([0, 51 * 257, 65535], [0, 51, 255]),
        ([-1, 0, 1], [0, 128, 255]),
        ([0, 1e6, 2e6], [0, 128, 255]),
        ([np.nan, np.inf, 1], [0, 0, 255]),
        ([-7, -7, -7], [0, 0, 0]),
        ([-3e38, 0, 3e38], [0, 128, 255]),
    ],
)
def test_deep_tiff(values, gray):
    image = Image.fromarray(np.array([values], getattr(values, "dtype", np.float32)))
    assert pixels(open_image(encode(image, "TIFF")))[0, :, 0].tolist() == gray


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    data = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), kind)
    red, green, blue = pixels(open_image(data))[4, 4]
    assert red > 240
    assert max(green, blue) < 15


def test_lab_tiff():
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    image = ImageCms.profileToProfile(photo(), srgb, lab, outputMode="LAB")
    data = encode(image, "TIFF")
    assert np.abs(pixels(open_image(data)).astype(int) - np.asarray(photo())).mean() < 12


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame(kind):
    frames = [Image.new("RGB", (9, 7), color) for color in ("red", "blue", "lime")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert pixels(open_image(data))[0, 0].tolist() == [255, 0, 0]


# --- hostile files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, I am a text", "not a picture of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "known format"),
        (b"%PDF-1.4\n", "known format"),
        (b"8BPS\0\1" + b"\0" * 40, "damaged PSD picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "known format"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, "damaged HEIF picture"),
        (b"\xff\xd8\xff", "damaged JPEG picture"),
        *(
            (head + b"0" * 100, "a packed archive, not a picture: unpack it")
            for head in (b"\x1f\x8b\x08", b"BZh9", b"PK\x03\x04", b"Rar!")
        ),
    ],
)
def test_what_is_no_picture_is_rejected_with_the_reason(tmp_path, data, reason):
    path = save(tmp_path / "x.jpg", data)
    with pytest.raises(ImageError, match=reason) as caught:
        open_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize(
    ("kind", "options"), [*((kind, {}) for kind in FORMATS), ("JPEG", {"progressive": True})]
)
def test_truncated_files_are_rejected_at_every_length(kind, options):
    rng = random.Random(4)  # noqa: S311
    noise = Image.frombytes("RGB", (64, 48), rng.randbytes(64 * 48 * 3))
    data = encode(noise, kind, **options)
    most = len(data) - 40  # what is missing may be a trailer without pixels
    for length in itertools.chain(range(min(64, most)), range(64, most, 97)):
        with pytest.raises(ImageError):
            open_image(data[:length])


def tiff_header(width: int, height: int) -> bytes:
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 279: 9}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + body + b"\0" * 4


@pytest.mark.parametrize(
    "data",
    [
        png_header(60_000, 60_000) + png_chunk(b"IDAT", zlib.compress(bytes(10**6))),
        b"GIF89a"
        + struct.pack("<HHBBB", 60_000, 60_000, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0)
        + b"\x08\0;",
        b"BM"
        + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
        b"P6\n60000 60000\n255\n",
        tiff_header(60_000, 60_000),
    ],
    ids=["PNG", "GIF", "BMP", "PPM", "TIFF"],
)
def test_bombs_are_rejected_by_their_header(data):
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match=r"60000 x 60000 pixels are over|exceeds limit"):
        open_image(data)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_picture_that_pillow_warns_about_is_accepted_up_to_our_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # Pillow warns from here, refuses from 1400
    for kind in FORMATS:
        data = encode(photo(), kind)
        assert open_image(data).width == 40
        with pytest.raises(ImageError, match="40 x 30 pixels are over the limit of 1,000"):
            open_image(data, limits=Limits(max_pixels=1000))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # our own limit counts where it can
    assert open_image(encode(photo())).width == 40
    with pytest.raises(ImageError, match="over the limit"):
        open_image(photo(), limits=Limits(max_pixels=100))


def test_the_byte_limit_is_checked_before_and_while_reading(tmp_path):
    path = save(tmp_path / "a.png")
    size = path.stat().st_size
    assert open_image(path, limits=Limits(max_bytes=size)).bytes == size
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.raises(ImageError, match="larger than the limit"):
            open_image(source, limits=Limits(max_bytes=size - 1))
    with pytest.raises(ImageError, match="larger than the limit"):
        content_hash(str(path), Limits(max_bytes=size - 1))


@pytest.mark.parametrize("name", ["max_pixels", "max_bytes"])
def test_limits_are_positive(name):
    with pytest.raises(ConfigurationError, match=name):
        Limits(**{name: 0})


def test_a_text_chunk_bomb_is_an_image_error():
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 9), zip=True)
    with pytest.raises(ImageError, match="damaged PNG picture: Decompressed data too large"):
        open_image(encode(photo(), pnginfo=text))


@pytest.mark.parametrize(
    "error",
    [
        *(OSError("x"), SyntaxError("x"), struct.error("x"), EOFError(), KeyError(1)),
        *(MemoryError(), RecursionError("x"), UserWarning("x"), Image.DecompressionBombError("x")),
    ],
    ids=repr,
)
def test_whatever_a_decoder_raises_becomes_an_image_error(monkeypatch, error):
    def load(self):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    with pytest.raises(ImageError) as caught:
        open_image(encode(photo()), uri="u")
    assert caught.value.uri == "u"
    assert caught.value.__cause__ is error
    assert caught.value.reason


def test_a_file_that_is_cut_off_is_rejected_whatever_the_program_takes(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encode(Image.effect_noise((99, 99), 50), "JPEG")
    for _ in range(2):
        with pytest.raises(ImageError, match="truncated"):
            open_image(data[: len(data) // 2])
        assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_interrupting_is_not_swallowed(monkeypatch):
    def load(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    with pytest.raises(KeyboardInterrupt):
        open_image(encode(photo()))


def test_threads_decode_without_touching_the_filters_of_others():
    data = [encode(photo(), kind, exif=b"Exif\0\0junk") for kind in ("JPEG", "PNG", "WEBP")] * 20
    before, threads = list(warnings.filters), threading.active_count()
    with ThreadPoolExecutor(4) as pool:
        hashes = [picture.sha256 for picture in pool.map(open_image, data)]
    assert hashes == [hashlib.sha256(each).hexdigest() for each in data]
    assert warnings.filters == before
    assert threading.active_count() <= threads


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://ann:p@ss@h:8443/a.jpg?b=c@d", "https://h:8443/a.jpg?b=c@d"),
        ("HTTPS://token@h/a.jpg", "HTTPS://h/a.jpg"),
        ("sftp://ann:secret@h/a.jpg", "sftp://ann@h/a.jpg"),
        ("sftp://ann@other/a.jpg", "sftp://ann@other/a.jpg"),
        ("zip://a.jpg::https://ann:secret@h/p.zip", "zip://a.jpg::https://h/p.zip"),
        ("tar://a@b.jpg::ftp://ann:secret@h/p.tar", "tar://a@b.jpg::ftp://ann@h/p.tar"),
        ("github://org:repo@main/a.jpg", "github://org:repo@main/a.jpg"),
        ("abfs://box@account/a.jpg", "abfs://box@account/a.jpg"),
    ],
)
def test_a_uri_has_no_password(given, kept):
    assert to_uri(given) == to_uri(kept) == kept
    assert with_credentials(kept) == given


class Far(BaseHTTPRequestHandler):
    """A server that wants a password, has one picture, and says what is wrong with the others."""

    def do_GET(self):
        is_allowed = self.headers.get("Authorization") == "Basic YW5uOnNlY3JldA=="
        status = int(self.path[1:4]) if is_allowed else 401
        data = encode(photo()) if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Location", self.path)
        self.end_headers()
        self.wfile.write(data if self.command == "GET" else b"")

    do_HEAD = do_GET  # noqa: N815


def test_a_password_fetches_and_is_not_shown():
    with answering(Far) as server:
        place = f"127.0.0.1:{server.server_port}"
        assert open_image(f"http://ann:secret@{place}/200.png").uri == f"http://{place}/200.png"
        assert open_image(f"http://{place}/200.png?again").width == photo().width  # it is known now
        with pytest.raises(
            ImageError, match="401 Unauthorized; passwords are not stored: name the"
        ):
            open_image(f"http://bob:guessed@{place}/200.png")
        for status, said in (
            (403, "the server answers 403 Forbidden"),
            (404, "the server answers 404 Not Found"),
            (500, "the server answers 500 Internal Server Error"),
            (302, "it redirects without end"),
        ):
            with pytest.raises(ImageError) as caught:
                open_image(f"http://ann:secret@{place}/{status}.png")
            assert str(caught.value) == f"http://{place}/{status}.png: cannot be opened: {said}"
        with pytest.raises(
            ImageError, match=r"^http://127.0.0.1:1/a.png: cannot be opened: [^@]*$"
        ):
            open_image("http://ann:secret@127.0.0.1:1/a.png")


def test_a_public_server_sends_nobody_to_a_private_address(monkeypatch):
    with answering(Far) as server:
        place = f"127.0.0.1:{server.server_port}"
        url = f"http://ann:secret@{place}/302.png"
        monkeypatch.setattr(addresses, "is_public", lambda address: next(public))
        for answers, said in (
            ([True, False], "it redirects to an address that is not on the public internet"),
            ([False], "it redirects without end"),  # who names one of a private network may be
        ):
            public = itertools.cycle(answers)
            with pytest.raises(ImageError, match=f"{place}/302.png: cannot be opened: {said}"):
                open_image(url)


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (OSError("530 Login incorrect."), True),
        (OSError("Authentication failed."), True),
        (OSError("no route"), False),
    ],
)
def test_who_is_not_known_is_asked_for_the_password(error, names):
    assert ("name the URL with its own again" in files.remote_reason(error)) == names


def test_a_server_that_is_silent_is_named_as_that():
    late, missing = asyncio.TimeoutError(), FileNotFoundError("https://host/a.png")
    late.__cause__, missing.__cause__ = asyncio.CancelledError(), late  # as aiohttp and fsspec do
    assert files.remote_reason(missing) == "it does not answer in time"


def test_what_comes_too_slowly_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE_SECONDS", -1)
    with pytest.raises(ImageError, match="was not there whole after"):
        list(files.blocks(io.BytesIO(b"bytes"), "u", files.Limits()))
