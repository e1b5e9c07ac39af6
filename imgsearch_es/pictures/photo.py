"""What a photo's file says of how it was taken: EXIF and XMP, and the file's own date.

Only the tags that are wanted are read, each within the block and of bounded size, so a hostile
block costs no more than it is long; what cannot be read is left out, and never an error.

EXIF is a TIFF directory (CIPA DC-008, 4.6; TIFF 6.0, section 2); XMP is RDF (ISO 16684-1).
"""

from __future__ import annotations

import math
import re
import struct
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Any
from xml.etree import ElementTree

from imgsearch_es.errors import ConfigurationError, ImageError
from imgsearch_es.pictures.files import Limits, blocks, opened, to_path
from imgsearch_es.pictures.sidecars import sidecars

ORIENTATION = 274
_MAKE, _MODEL, _DESCRIPTION, _CHANGED, _XMP = 271, 272, 270, 306, 700
_EXIF, _GPS = 34665, 34853
_TAKEN, _DIGITIZED, _LENS = 36867, 36868, 42036
_TITLE, _KEYWORDS = 0x9C9B, 0x9C9E
"""Windows' own, in UTF-16."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
"""Bytes of each type that is read."""
_ENTRIES = 1000
"""Of a directory that are looked at."""
_LONGEST_BLOCK = 1 << 20
"""Bytes of EXIF, or of XMP, that are looked at."""
_SIDECAR = Limits(max_bytes=_LONGEST_BLOCK)
_LONGEST, _MOST_KEYWORDS = 2000, 100
"""Characters of a text, and keywords."""
_DATE = re.compile(r"(\d{4})(?:$|[:-](\d\d)(?:$|[:-](\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d))?)?))")
"""Without a day or a month where nobody knows them."""
_NAMES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
}
_XMP_DATES = _XMP_TAKEN, _XMP_CREATED, _XMP_DIGITIZED = (
    "exif:DateTimeOriginal", "photoshop:DateCreated", "xmp:CreateDate"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Photo:
    """How a photo was taken; empty where nothing says.

    Attributes:
        taken_at: by the camera's clock, to the second, without a time zone; the date of the file
            where the photo has none.
        camera, lens: as the camera names its model and its lens.
        place: latitude and longitude in degrees (WGS 84).
        caption, keywords: what a person wrote into the photo.
    """

    taken_at: datetime | None = None
    camera: str = ""
    lens: str = ""
    place: tuple[float, float] | None = None
    caption: str = ""
    keywords: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What is known, as JSON values."""
        known: dict[str, Any] = {n: value for n in self.__slots__ if (value := getattr(self, n))}
        if self.taken_at is not None:
            known["taken_at"] = self.taken_at.isoformat()
        for name in ("place", "keywords"):
            if name in known:
                known[name] = list(known[name])
        return known

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> Photo:
        """What ``to_dict`` gave; ValueError or TypeError of anything else."""
        taken_at, place = known.get("taken_at"), known.get("place")
        if not isinstance(place, list | tuple | None) or not isinstance(
            known.get("keywords"), list | tuple | None
        ):
            raise TypeError("place and keywords are lists")
        photo = cls(
            taken_at=None if taken_at is None else datetime.fromisoformat(taken_at),
            place=None if place is None else (float(place[0]), float(place[1])),
            keywords=tuple(known.get("keywords") or ()),
            **{name: known.get(name) or "" for name in ("camera", "lens", "caption")},
        )
        photo.check()
        return photo

    def check(self) -> None:
        """ValueError unless both stores can hold it."""
        texts = (self.camera, self.lens, self.caption, *self.keywords)
        if not all(isinstance(text, str) and len(text) <= _LONGEST for text in texts):
            raise ValueError(f"camera, lens, caption and keywords are texts of {_LONGEST} letters")
        if any(text != text.encode("utf-8", "replace").decode() for text in texts):
            raise ValueError("a text has half a character (a lone surrogate)")
        if len(self.keywords) > _MOST_KEYWORDS:
            raise ValueError(f"there are at most {_MOST_KEYWORDS} keywords")
        if self.taken_at is not None and self.taken_at != self.taken_at.replace(
            microsecond=0, tzinfo=None
        ):
            raise ValueError("taken_at is a time to the second, without a time zone")
        if self.place is not None and not is_place(*self.place):
            raise ValueError("place is a latitude and a longitude, in degrees")


NO_PHOTO = Photo()
KEPT = ("facts", "place", "nothing")
"""What an index may keep of a photo: all but its place, by default; all; nothing."""


def to_kept(what: object) -> str:
    """One of KEPT; ConfigurationError for anything else."""
    if what not in KEPT:
        raise ConfigurationError(f"photo is one of {', '.join(KEPT)}, not {what!r:.60}")
    return str(what)


def kept(photo: Photo, what: str) -> Photo:
    """What an index of one of KEPT keeps of a photo."""
    if what == "nothing":
        return NO_PHOTO
    return photo if what == "place" or photo.place is None else replace(photo, place=None)


def is_place(latitude: float, longitude: float) -> bool:
    """Whether two numbers are degrees."""
    return -90 <= latitude <= 90 and -180 <= longitude <= 180


def read_photo(info: Mapping[Any, Any], data: bytes, uri: str) -> Photo:
    """What a file says of the photo in it, given what Pillow found beside the pixels.

    The file's own date counts where the photo has none, and a sidecar before what the file says of
    the same: it is what a person said last.
    """
    block = _block(info, data)
    tags = _directory(block, _first(block))
    exif = _directory(block, _number(tags.get(_EXIF)))
    own = _read_xmp(info.get("xmp") or info.get("XML:com.adobe.xmp") or tags.get(_XMP))
    beside = _read_xmp(_sidecar(uri))
    subjects = [*beside.get("dc:subject", ()), *own.get("dc:subject", ())]
    dates = [beside.get(_XMP_TAKEN), beside.get(_XMP_CREATED), exif.get(_TAKEN)]
    dates += [beside.get(_XMP_DIGITIZED), exif.get(_DIGITIZED), *map(own.get, _XMP_DATES)]
    changed = tags.get(_CHANGED), info.get("creation_time")
    keywords = [*subjects, *_utf16(tags.get(_KEYWORDS)).split(";")]
    described = [beside.get("dc:description"), beside.get("dc:title")]
    described += [own.get("dc:description"), tags.get(_DESCRIPTION), own.get("dc:title")]
    captions = (*map(_text, described), _utf16(tags.get(_TITLE)))
    return Photo(
        taken_at=_taken(dates) or _taken(changed) or _date_of_file(uri),
        camera=_text(tags.get(_MODEL)) or _text(tags.get(_MAKE)),
        lens=_text(exif.get(_LENS)),
        place=_place(_directory(block, _number(tags.get(_GPS)))),
        caption=next(filter(None, captions), ""),
        keywords=tuple(dict.fromkeys(filter(None, map(_text, keywords))))[:_MOST_KEYWORDS],
    )


def orientation(exif: object) -> int:
    """Tag 274 of the first directory of an EXIF block; 1 if it is broken.

    Pillow's own reader warns about broken blocks and has side effects on the image.
    """
    block = exif.removeprefix(b"Exif\0\0") if isinstance(exif, bytes) else b""
    return _number(_directory(block, _first(block)).get(ORIENTATION)) or 1


def _block(info: Mapping[Any, Any], data: bytes) -> bytes:
    if data[:4] in (b"II*\0", b"MM\0*"):  # a TIFF file is a block of EXIF itself
        return data
    exif = info.get("exif")
    return exif[:_LONGEST_BLOCK].removeprefix(b"Exif\0\0") if isinstance(exif, bytes) else b""


def _order(block: bytes) -> str:
    return ">" if block[:2] == b"MM" else "<"


def _first(block: bytes) -> int:
    return _number(block[4:8], _order(block)) if block[:2] in (b"MM", b"II") else 0


def _directory(block: bytes, start: int) -> dict[int, Any]:
    """The values of a directory's tags: bytes, and numbers where there are few."""
    order, found = _order(block), {}
    if not 0 < start < len(block):
        return {}
    try:
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for entry in range(start + 2, start + 2 + 12 * min(count, _ENTRIES), 12):
            tag, kind, length = struct.unpack_from(f"{order}HHI", block, entry)
            size = _SIZES.get(kind, 0) * length
            if not 0 < size <= _LONGEST_BLOCK:
                continue
            (place,) = struct.unpack_from(f"{order}I", block, entry + 8)
            place = entry + 8 if size <= 4 else place
            value = block[place : place + size]
            if len(value) == size:
                found[tag] = _numbers(value, kind, order) if kind in (3, 4, 5, 10) else value
    except struct.error:
        pass
    return found


def _numbers(value: bytes, kind: int, order: str) -> list[float]:
    value = value[:64]
    if kind in (3, 4):
        code, size = ("H", 2) if kind == 3 else ("I", 4)
        return list(struct.unpack(f"{order}{len(value) // size}{code}", value))
    code = "I" if kind == 5 else "i"
    parts = struct.unpack(f"{order}{len(value) // 4}{code}", value)
    return [a / b if b else math.nan for a, b in zip(parts[::2], parts[1::2], strict=True)]


def _number(value: Any, order: str = "<") -> int:
    """The first number of a tag, or in four bytes; 0 without one."""
    if isinstance(value, bytes):
        return int(struct.unpack(f"{order}I", value)[0]) if len(value) == 4 else 0
    return int(value[0]) if value and math.isfinite(value[0]) else 0


def _text(value: object) -> str:
    """A text on one line, without what ends or pads it."""
    if isinstance(value, bytes):
        value = value[: 4 * _LONGEST].partition(b"\0")[0].decode("utf-8", "replace")
    text = value if isinstance(value, str) else ""
    text = text[: 4 * _LONGEST].encode("utf-8", "replace").decode()
    return " ".join(text.replace("\0", " ").split())[:_LONGEST]


def _utf16(value: object) -> str:
    if not isinstance(value, bytes):
        return ""
    return _text(value[: 4 * _LONGEST].decode("utf-16-le", "replace").rstrip("\0"))


def _moment(value: object) -> tuple[int, ...]:
    """Year, month, day, hour and so on, as far as they are told; empty of what is no date."""
    found = _DATE.match(_text(value))
    parts = tuple(int(part) for part in found.groups() if part) if found else ()
    if 0 in parts[:3]:  # a month or a day that nobody knows
        parts = parts[: parts.index(0)]
    for told in (parts, parts[:3]):  # the day also where 24:00 or a leap second is no time here
        with suppress(ValueError):  # from the oldest photo that there is on
            return told if told and _whole(told).year >= 1826 else ()
    return ()


def _whole(parts: tuple[int, ...]) -> datetime:
    """With the first month and day where they are not told."""
    return datetime(*(*parts, 1, 1)[: max(3, len(parts))])  # type: ignore[arg-type]


def _taken(values: Iterable[object]) -> datetime | None:
    """The first date, or what says the same more closely: to the second, say, not to the day."""
    told = list(filter(None, map(_moment, values)))
    same = [each for each in told if each[: len(told[0])] == told[0]]
    return _whole(max(same, key=len)) if same else None


def _sidecar(uri: str) -> bytes | None:
    """The XMP beside a local picture."""
    path = to_path(uri)
    for place in () if path is None else sidecars(path):
        with suppress(OSError, ValueError, ImageError), opened(str(place), _SIDECAR) as file:
            return b"".join(blocks(file, str(place), _SIDECAR))
    return None


def _date_of_file(uri: str) -> datetime | None:
    """When a local file was last written, by this machine's clock."""
    path = to_path(uri)
    try:
        return None if path is None else datetime.fromtimestamp(path.stat().st_mtime_ns // 10**9)
    except (OSError, OverflowError, ValueError):
        return None


def _place(gps: Mapping[int, Any]) -> tuple[float, float] | None:
    """Degrees, minutes and seconds north or south, east or west."""
    degrees = []
    for sign, value, minus in ((1, 2, b"S"), (3, 4, b"W")):
        parts = gps.get(value)
        if not isinstance(parts, list) or len(parts) < 3 or not isinstance(gps.get(sign), bytes):
            return None
        total = parts[0] + parts[1] / 60 + parts[2] / 3600
        degrees.append(round(-total if gps[sign][:1].upper() == minus else total, 7))
    latitude, longitude = degrees
    return (latitude, longitude) if is_place(latitude, longitude) else None


def _read_xmp(packet: object) -> dict[str, Any]:
    """The properties of an XMP packet that are wanted: texts, and the list of subjects.

    A packet that declares entities is not read: it needs none, and an attack would; nor one that is
    neither in UTF-8 nor marked as in UTF-16, which could hide them.
    """
    data = packet.encode("utf-8", "replace") if isinstance(packet, str) else packet
    if not isinstance(data, bytes) or len(data) > _LONGEST_BLOCK:
        return {}
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        data = data.decode("utf-16", "replace").encode()
    data = data.strip(b"\0 \r\n\t")
    if b"<!DOCTYPE" in data or b"\0" in data:
        return {}
    try:
        tree = ElementTree.fromstring(data, ElementTree.XMLParser(encoding="utf-8"))  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError):
        return {}
    found: dict[str, Any] = {}
    rdf = f"{{{_NAMES['rdf']}}}"  # descriptions deeper down are of other things, such as parts
    for described in chain(*(top.iterfind(f"{rdf}Description") for top in tree.iter(f"{rdf}RDF"))):
        for name in (*_XMP_DATES, "dc:description", "dc:title", "dc:subject"):
            prefix, _, local = name.partition(":")
            full = f"{{{_NAMES[prefix]}}}{local}"
            values = [*_values(described.find(full)), *filter(None, [described.get(full)])]
            if values and name not in found:
                found[name] = values if name == "dc:subject" else values[0]
    return found


def _values(element: ElementTree.Element | None) -> Iterator[str]:
    """Its own text, and those of the list in it; not of all below, which may be most of it."""
    items = () if element is None else (element, *element.iterfind("*/*"))
    yield from (each.text for each in items if each.text and each.text.strip())
