"""XMP sidecars: files beside pictures, in which photo programs keep what they know of them.

``IMG.jpg.xmp`` is what digiKam and darktable read and write, ``IMG.xmp`` what Lightroom does for
RAW files. Words are put into the text of a sidecar, so that all else in it stays byte by byte.

XMP is RDF (ISO 16684-1); ``lr:hierarchicalSubject`` is Lightroom's, with bars between its parts.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from imgsearch_es.errors import ImageError
from imgsearch_es.pictures.files import Limits, read_bytes, reason, replacing

EXTENSION = "xmp"
LISTS = SUBJECT, HIERARCHY = "dc:subject", "lr:hierarchicalSubject"
NAMES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
}
_LONGEST_WORD = 2000
"""Characters of a keyword: in crumbs between elements, each of many costs a copy of it."""
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_END = re.compile(rb"</([\w.-]+:)?([\w.-]+)\s*>")
_EMPTY = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="imgsearch_es">
<rdf:RDF xmlns:rdf="{NAMES["rdf"]}">
</rdf:RDF>
</x:xmpmeta>
""".encode()


class SidecarError(ValueError):
    """A sidecar cannot be read or written safely; ``str(error)`` says why, in a few words."""


def sidecars(picture: Path) -> tuple[Path, Path]:
    """Where those of a picture may be: digiKam's and darktable's, Lightroom's."""
    named = picture.with_name(f"{picture.name}.{EXTENSION}")
    return named, picture.with_suffix(f".{EXTENSION}") if picture.stem else named


def tag(picture: Path, words: Mapping[str, Sequence[str]], *, is_raw: bool, dry_run: bool) -> bool:
    """Put words of SUBJECT and HIERARCHY into a picture's sidecar; whether that changes it.

    It is ``IMG.jpg.xmp``, or Lightroom's where a RAW file has that alone. One that holds nothing
    but such words as we write is written anew; to others the missing words are added. SidecarError
    where it cannot be read, changed or written.
    """
    place, lightroom = sidecars(picture)
    if is_raw and lightroom.exists() and not place.exists():
        place = lightroom
    try:
        # darktable's, with masks, take the most bytes
        limits = Limits(max_bytes=16 << 20)
        before = read_bytes(str(place), limits) if place.exists() else None
        if before is None and not any(words.values()):
            return False
        is_ours = before is None or before == with_words(_EMPTY, _Found(before).words)
        after = with_words(_EMPTY if before is None or is_ours else before, words)
        if after == before or dry_run:
            return after != before
        with replacing(place) as draft:
            draft.write_bytes(after)
            if before is not None:
                shutil.copymode(place, draft)
    except OSError as error:
        raise SidecarError(f"{place.name} cannot be written: {reason(error)}") from error
    except (SidecarError, ImageError) as error:
        why = error.reason if isinstance(error, ImageError) else error
        raise SidecarError(f"{place.name} stays as it is: {why}") from error
    return True


def with_words(data: bytes, words: Mapping[str, Sequence[str]]) -> bytes:
    """A sidecar with words in their lists, of which those that it has are not added again."""
    found = _Found(data)
    places: dict[int, str] = {}
    new = []
    for name, wanted in words.items():
        cleaned = (" ".join(_NO_XML.sub(" ", word).split()) for word in wanted)
        there = {" ".join(word.split()) for word in found.words.get(name, ())}
        added = [word for word in dict.fromkeys(cleaned) if word and word not in there]
        if not added:
            continue
        if name in found.lists:
            place, prefix = found.lists[name]
            places[place] = "".join(f"<{prefix}li>{escape(word)}</{prefix}li>\n" for word in added)
        else:
            items = "".join(f"   <rdf:li>{escape(word)}</rdf:li>\n" for word in added)
            new.append(f"  <{name}><rdf:Bag>\n{items}  </rdf:Bag></{name}>\n")
    if new:
        names = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in NAMES.items())
        about = quoteattr(found.about)
        places[found.end] = (
            f" <rdf:Description{names} rdf:about={about}>\n{''.join(new)} </rdf:Description>\n"
        )
    for place in sorted(places, reverse=True):
        data = data[:place] + places[place].encode() + data[place:]
    return data


class _Found:
    """Where what is in a sidecar; SidecarError where words cannot be added safely."""

    def __init__(self, data: bytes) -> None:
        self.words: dict[str, list[str]] = {}
        """Of each list."""
        self.lists: dict[str, tuple[int, str]] = {}
        """Where each of them ends, and the prefix of names there, as of ``rdf:``."""
        self.end, self.about = -1, ""
        """Where all of them end; what all is said of, mostly nothing."""
        self._open: list[str] = []
        self._at: int | None = None
        self._data = data
        self._parser = parser = expat.ParserCreate("utf-8", " ")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._finish
        parser.CharacterDataHandler = self._take
        parser.StartDoctypeDeclHandler = self._refuse
        parser.XmlDeclHandler = self._declared
        parser.buffer_text = True
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise SidecarError(f"it is no XMP ({error})") from error
        if self.end < 0 or self.words.keys() != self.lists.keys():
            raise SidecarError("its keywords are in a form that is not known")

    def _refuse(self, *told: Any) -> None:
        raise SidecarError("it declares entities, which XMP does not")

    def _declared(self, version: str, encoding: str | None, standalone: int) -> None:
        if (encoding or "utf-8").lower() != "utf-8":
            raise SidecarError("it is not in UTF-8")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append(_short(name))
        if self._at is None and self._open[-1] == "rdf:RDF":
            self._at = len(self._open) - 1
        inside = self._inside()
        if inside == ["rdf:RDF", "rdf:Description"]:
            known = {_short(key): value for key, value in attributes.items()}
            self.about = self.about or known.get("rdf:about", "")
            self.words |= {f"attribute {name}": [] for name in LISTS if name in known}
        elif len(inside) == 3 and inside[2] in LISTS:
            again = inside[2] in self.words
            self.words["twice" if again else inside[2]] = []
        elif inside[4:] == ["rdf:li"] and inside[2] in LISTS:
            self.words[inside[2]].append("")

    def _take(self, text: str) -> None:
        inside = self._inside()
        if inside[4:] == ["rdf:li"] and inside[2] in LISTS:
            self.words[inside[2]][-1] += text
            if len(self.words[inside[2]][-1]) > _LONGEST_WORD:
                raise SidecarError(f"it has a keyword of more than {_LONGEST_WORD:,} characters")

    def _finish(self, name: str) -> None:
        inside, place = self._inside(), self._parser.CurrentByteIndex
        tag = _END.match(self._data, place)
        if tag and not name.endswith(f" {tag[2].decode()}"):
            tag = None  # that of an element without content is passed already
        if tag and len(inside) == 1:
            self.end = place
        elif tag and len(inside) == 4 and inside[2] in LISTS:
            self.lists[inside[2]] = place, (tag[1] or b"").decode()
        self._open.pop()
        if self._at == len(self._open):
            self._at = None

    def _inside(self) -> list[str]:
        """The first elements that are open, from ``rdf:RDF`` on."""
        return [] if self._at is None else self._open[self._at : self._at + 6]


def _short(name: str) -> str:
    """A name with its namespace, by our prefix."""
    uri, _, local = name.rpartition(" ")
    prefix = next((prefix for prefix, known in NAMES.items() if known == uri), uri)
    return f"{prefix}:{local}"
