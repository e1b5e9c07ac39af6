"""Documents: what an index holds of a picture, and how Elasticsearch and Kibana see it.

The schema keeps the paper's Figure 2 field by field (``filename``, ``synset.<key>.wind``,
``.words``, ``.score``) and adds what it lacked. ``wind`` is the paper's spelling of wnid.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import starmap
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Analysis, Term
from imgsearch_es.analysis.filters import PARTS, Box, box_of
from imgsearch_es.errors import ConfigurationError
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.pictures.images import Facts
from imgsearch_es.pictures.photo import KEPT, NO_PHOTO, Photo, kept
from imgsearch_es.retrieval import ledger
from imgsearch_es.retrieval.spans import orders, searched
from imgsearch_es.vocabulary.colors import COLOR, COLORS, is_color
from imgsearch_es.vocabulary.synsets import Vocabulary

SCHEMA_VERSION = 1
"""Raised by one whenever the stored form changes; stores migrate or refuse older ones."""
TAUGHT_SCHEMA, COLOR_SCHEMA = 2, 3
"""What an index with taught words, or with colors, says instead, so that installations which do not
know them refuse it: they would add documents without them, and call those with them harmed."""

_PLAIN = ("id", "uri", "filename", "sha256", "width", "height", "bytes", "format")
"""Attributes that JSON holds as they are."""
_SORTED = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One indexed picture.

    >>> document = index.get("photos/chelsea.jpg")
    >>> document.filename, document.width, document.terms[0].key
    ('chelsea.jpg', 451, 'tiger_cat')

    Attributes:
        id: derived from the URI, so indexing a picture again replaces it.
        uri: absolute path of a local file, or a URL; ``filename`` is its last part.
        width, height: pixels, after EXIF orientation.
        bytes: size of the file, whose ``format`` is as Pillow names it.
        indexed_at: when it was analyzed, UTC.
        labels, metadata: what a person says of the picture; JSON values.
        terms: the picture's synsets, best first.
        photo: how it was taken, as far as the index keeps that.
        text: what was read in it, by lines; None where nobody has looked.
        embedding: the deep feature, float32 of shape (dimensions,), or None.
        colors: the shares of its colors, largest first: terms that words ask for, and no picture.
        thumbnail: a small JPEG in base64, or nothing: for Kibana, of hits it is not read.
    """

    id: str
    uri: str
    filename: str
    sha256: str
    width: int
    height: int
    bytes: int
    format: str
    indexed_at: datetime
    terms: tuple[Term, ...]
    labels: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    embedding: NDArray[np.float32] | None = None
    photo: Photo = NO_PHOTO
    text: str | None = None
    colors: tuple[Term, ...] = ()
    thumbnail: str = ""

    @property
    def postings(self) -> tuple[Term, ...]:
        """What inverted indexes have of it: its synsets, then its colors."""
        return self.terms + self.colors

    @property
    def is_read(self) -> bool:
        """Whether the picture was read; of one that a file of features names it was not."""
        return self.bytes > 0

    @property
    def length(self) -> float:
        """The sum of the scores."""
        return math.fsum(term.score for term in self.terms)

    @property
    def norm(self) -> float:
        """The Euclidean norm of the scores."""
        return math.sqrt(math.fsum(term.score**2 for term in self.terms))

    @property
    def views(self) -> list[int | None] | None:
        """Of each posting the view in which it was best; None where none has one."""
        found = [term.view for term in self.postings]
        return found if any(view is not None for view in found) else None

    def box(self, term: Term) -> Box | None:
        """Where in the picture a term of it was best, in pixels; None where that is not known."""
        return None if term.view is None else box_of(term.view, self.width, self.height)

    def shown_terms(self) -> list[dict[str, Any]]:
        """The terms as JSON values, each with its box where it has one."""
        boxes = map(self.box, self.terms)
        return [
            {"synset": term.key, "score": term.score} | ({"box": list(box)} if box else {})
            for term, box in zip(self.terms, boxes, strict=True)
        ]

    def shown_colors(self) -> dict[str, Any]:
        """``{"colors": {"red": 0.4, ...}}``, shares of the pixels, most first; {} without any."""
        colors = {term.key.removeprefix(COLOR): term.score for term in self.colors}
        return {"colors": colors} if colors else {}

    def shown_photo(self) -> dict[str, Any]:
        """How it was taken and the text in it, as far as that is known, as JSON values."""
        photo = {"photo": self.photo.to_dict()} if self.photo != NO_PHOTO else {}
        return {**photo, "text": self.text} if self.text else photo

    @property
    def checksum(self) -> str:
        """Of all of the document: 32 hexadecimal digits, and "v" where it has a deep feature."""
        return self._checksum(self._facts())

    def _checksum(self, facts: Mapping[str, Any]) -> str:
        facts = {**facts, "indexed_at": self.indexed_at.astimezone(timezone.utc).isoformat()}
        if self.metadata:
            facts["metadata"] = json.loads(json.dumps(facts["metadata"]))  # keys are texts, sorted
        digest = hashlib.blake2b(_SORTED.encode(facts).encode("ascii"), digest_size=16)
        digest.update(self.thumbnail.encode("ascii"))
        if self.embedding is None:
            return digest.hexdigest()
        digest.update((self.embedding + np.float32(0)).astype("<f4").tobytes())  # -0 is 0
        return f"{digest.hexdigest()}v"

    @classmethod
    def from_feature(
        cls, key: str, uri: str, name: str, embedding: NDArray[np.float32], labels: Sequence[str]
    ) -> Document:
        """The document of a picture that was not read: it has a deep feature and no size."""
        return cls(
            id=key,
            uri=uri,
            filename=name,
            sha256=hashlib.sha256(f"not read: {uri}".encode()).hexdigest(),
            width=0,
            height=0,
            bytes=0,
            format="UNKNOWN",
            indexed_at=ledger.now(),
            terms=(),
            labels=tuple(labels),
            embedding=embedding,
        )

    @classmethod
    def from_picture(
        cls,
        picture: Facts,
        analysis: Analysis,
        *,
        labels: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        photo: str = KEPT[0],
    ) -> Document:
        """Join a picture and its analysis; ``photo`` says what to keep of how it was taken."""
        return cls(
            **{name: getattr(picture, name) for name in _PLAIN},
            indexed_at=ledger.now(),
            terms=analysis.terms,
            labels=tuple(labels),
            metadata=dict(metadata or {}),
            embedding=analysis.embedding,
            colors=analysis.colors,
            photo=kept(picture.photo, photo),
        )

    def to_source(
        self,
        vocabulary: Vocabulary,
        sent: Callable[[NDArray[np.float32]], object] = np.ndarray.tolist,
        *,
        synset_fields: bool = True,
        lean: bool = False,
    ) -> dict[str, Any]:
        """The document as Elasticsearch's ``_source``; ``sent`` writes its deep feature.

        Without ``synset_fields`` it has a list of ``scores`` in their place. A ``lean`` one
        has what is searched, and all else in ``hit`` alone.
        """
        facts = self._facts()
        checksum = self._checksum(facts)
        source: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN} | {
            "indexed_at": self.indexed_at.isoformat(),
            "label": list(self.labels),
            "metadata": dict(self.metadata),
            "posterior": {term.key: term.score for term in self.postings},
            "synsets": [term.key for term in self.terms],
            "length": self.length,
            "norm": self.norm,
            "hit": self._packed(facts, checksum),
            **self.photo.to_dict(),
        }
        if ordered := orders(ledger.leaves(self.metadata)):
            source["ordered"] = ordered
        if self.text is not None:
            source["ocr"] = searched(self.text)
        if self.photo.place is not None:
            source["place"] = dict(zip(("lat", "lon"), self.photo.place, strict=True))
        if self.terms:
            source |= {"top_synset": self.terms[0].key, "top_score": self.terms[0].score}
        if self.colors:
            source["colors"] = [term.key for term in self.colors]
        if self.embedding is not None:
            source["embedding"] = sent(self.embedding)
        if lean:
            if synset_fields:
                source["synset"] = {term.key: {"score": term.score} for term in self.postings}
            return source
        source["checksum"] = checksum
        if self.text is not None:
            source["text"] = self.text
        if synset_fields:
            source["synset"] = {
                term.key: {"wind": synset.wnid, "words": synset.name, "score": term.score}
                for term in self.postings
                for synset in (vocabulary[term.key],)
            }
        else:
            source["scores"] = [term.score for term in self.postings]
        if self.views is not None:
            source["views"] = self.views
        if self.thumbnail:
            source["thumbnail"] = self.thumbnail
        return source

    @classmethod
    def from_source(cls, source: Mapping[str, Any]) -> Document:
        """The document of an Elasticsearch ``_source``; fields left out of it are empty here."""
        synset = source.get("synset", {})
        keys = [*source.get("synsets", ()), *source.get("colors", ())]
        scores = source.get("scores")
        if scores is None:
            scores = [synset[key]["score"] for key in keys]
        embedding, place = source.get("embedding"), source.get("place")
        at = {} if place is None else {"place": (place["lat"], place["lon"])}
        return cls(
            **{name: source[name] for name in _PLAIN},
            indexed_at=datetime.fromisoformat(source["indexed_at"]),
            **terms_of(keys, map(to_score, scores), source.get("views")),
            labels=tuple(source.get("label", ())),
            metadata=source.get("metadata", {}),
            embedding=None if embedding is None else np.asarray(embedding, dtype=np.float32),
            photo=Photo.from_dict({**source, **at}),
            text=source.get("text"),
            thumbnail=source.get("thumbnail", ""),
        )

    def _packed(self, facts: dict[str, Any], checksum: str) -> str:
        """Base64 of deflated JSON: quick to read. An id that follows from the URI is left out."""
        facts["checksum"] = checksum
        if self.id == picture_id(self.uri):
            del facts["id"]
        data = json.dumps(facts, separators=(",", ":")).encode("ascii")
        return base64.b64encode(ledger.pack(data)).decode("ascii")

    def _facts(self) -> dict[str, Any]:
        """All but the embedding, as JSON values."""
        views = self.views
        seen: dict[str, Any] = {} if views is None else {"views": views}
        if self.photo != NO_PHOTO:
            seen["photo"] = self.photo.to_dict()
        if self.text is not None:
            seen["text"] = self.text
        return {name: getattr(self, name) for name in _PLAIN} | {
            "indexed_at": self.indexed_at.isoformat(),
            "labels": self.labels,
            "metadata": dict(self.metadata),
            "terms": [term.key for term in self.postings],
            "scores": [float(f"{term.score:.9g}") for term in self.postings],  # as float32
            **seen,  # left out otherwise, as before there were any
        }

    @staticmethod
    def terms_of_hit(hit: str) -> tuple[str, dict[str, float]]:
        """The id in what ``hit`` has, and the scores of its postings by key: quicker than all."""
        fields = facts_of(hit)
        scores = np.asarray(fields["scores"], np.float32).tolist()
        return fields["id"], dict(zip(fields["terms"], scores, strict=True))

    @classmethod
    def from_hit(cls, hit: str) -> Document:
        """The document, without its embedding, in what ``hit`` has of a source."""
        fields = facts_of(hit)
        return cls(
            **{name: fields[name] for name in _PLAIN},
            indexed_at=datetime.fromisoformat(fields["indexed_at"]),
            labels=tuple(fields["labels"]),
            metadata=fields["metadata"],
            **terms_of(
                fields["terms"],
                np.asarray(fields["scores"], np.float32).tolist(),  # all at once: it is quicker
                fields.get("views"),
            ),
            photo=Photo.from_dict(fields.get("photo", {})),
            text=fields.get("text"),
        )


def facts_of(hit: str) -> dict[str, Any]:
    """The JSON in what ``hit`` has of a source; ValueError of anything else."""
    found: dict[str, Any] = json.loads(ledger.unpack(base64.b64decode(hit)))
    if "id" not in found:
        found["id"] = picture_id(found["uri"])
    return found


class Postings(TypedDict):
    """Of a document, apart."""

    terms: tuple[Term, ...]
    colors: tuple[Term, ...]


def terms_of(
    keys: Iterable[str], scores: Iterable[float], views: Sequence[int | None] | None
) -> Postings:
    """``terms`` and ``colors`` of postings, by lists of one length; ValueError if they differ."""
    if views is None:
        found = tuple(starmap(Term, zip(keys, scores, strict=True)))
    elif any(view is not None and view not in range(len(PARTS)) for view in views):
        raise ValueError(f"a view is a number from 0 to {len(PARTS) - 1}")
    else:
        found = tuple(starmap(Term, zip(keys, scores, views, strict=True)))
    count = sum(is_color(term.key) for term in found[-len(COLORS) :])
    return {"terms": found[: len(found) - count], "colors": found[len(found) - count :]}


def to_score(value: float) -> float:
    """The float32 number nearest to a score: what both stores keep."""
    return float(np.float32(value))


def without_thumbnails(documents: Iterable[Document]) -> list[Document]:
    """The documents as a store keeps them that nobody looks at in Kibana."""
    return [replace(each, thumbnail="") if each.thumbnail else each for each in documents]


def storable(documents: Iterable[Document]) -> tuple[list[Document], list[tuple[str, str]]]:
    """The documents that can be stored, of one id the last one; and (uri, reason) of the others."""
    taken: dict[str, Document] = {}
    refused = []
    for document in documents:
        try:
            ledger.text_bytes(document.uri, "the URI")
            ledger.text_bytes(document.filename, "the file's name")
            ledger.check_own(document.labels, document.metadata)
            ledger.text_bytes(document.text or "", "its text")
            if document.embedding is not None:
                ledger.check_feature(document.embedding)
        except ConfigurationError as error:
            refused.append((document.uri, str(error)))
        else:
            taken[document.id] = document
    return list(taken.values()), refused
