"""What requests and answers look like; the OpenAPI description is made of these.

Answers have the shape that the command line prints with ``--json``: both come from the same
``to_dict``. These models describe them, and a test holds every answer against its model.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.strategies import HEAVIEST

MAX_K = 1000
_MOST_OPENED = 8
"""Pictures of a search that are opened and analyzed, for their views or a region."""

Weight = Annotated[float, Field(ge=0, le=HEAVIEST)]

PictureId = Annotated[
    str,
    Field(
        pattern=r"^([0-9a-f]{32}|upload-[A-Za-z0-9_-]{22})$",
        description="The id of an indexed picture, or of an upload.",
    ),
]
PictureIds = Annotated[list[PictureId], Field(max_length=64)]
RegionBox = Annotated[
    tuple[float, float, float, float],
    Field(description="left, top, right, bottom; fractions where all are 1 or less, else pixels"),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Asked(_Model):
    """What fits into a URL, too."""

    text: str | None = Field(
        None, max_length=10_000, description="Words and conditions: `dog -poodle label:pets`."
    )
    image: PictureIds = Field([], description="Pictures; of several the mean counts.")
    like: PictureIds = Field([], description="Pictures to search closer to.")
    dislike: PictureIds = Field([], description="Pictures to search further from.")
    strategy: str = Field("auto", max_length=40, description="How to score.")
    sort: str | None = Field(
        None, max_length=200, description="List by a field instead: `taken_at`, newest first."
    )
    exclude_self: bool | None = Field(
        None, description="Leave out the query's own pictures; by default where there are words."
    )


class _Page(_Model):
    k: int = Field(10, ge=1, le=MAX_K, description="How many hits.")
    offset: int = Field(0, ge=0, le=10_000, description="How many of the best to leave out.")


class What(_Asked):
    """What is searched for; the arguments of ``ImageIndex.search``."""

    vector: list[float] | None = Field(
        None, min_length=1, max_length=10_000, description="A deep feature, for dense-*."
    )
    where: dict[str, Any] | str = Field(
        {},
        description='Conditions: `{"label": "indoor", "width": {"gte": 800}}`, '
        "or a line: `label=indoor width>=800`.",
    )
    region: RegionBox | None = Field(None, description="The part of the one picture to search for.")
    views: list[Literal["mirror", "rotations", "crops"]] = []
    feedback: int = Field(0, ge=0, le=100, description="Search twice, with so many hits liked.")
    rocchio: tuple[Weight, Weight, Weight] | None = Field(
        None, description="Weights of the query, the liked and the disliked pictures."
    )
    parameters: dict[str, float] = Field({}, description="Of the strategy: k1 and b of bm25.")
    min_score: float | None = Field(None, description="The least score of a hit.")
    approximate: bool = False
    candidates: int | None = Field(None, ge=1, le=10_000)
    fuse: dict[str, float] | None = Field(None, description="Parts and weights: `{'image': 1}`.")
    fusion: Literal["sum", "rrf"] = "sum"
    rank_constant: int = Field(60, ge=1, le=1_000_000, description="Of rrf, as of the next.")
    window: int = Field(100, ge=1, le=MAX_K, description="How many pictures each part ranks.")

    @property
    def opens_pictures(self) -> bool:
        """Whether pictures of the index are analyzed anew: views and a region are of pixels."""
        return self.region is not None or bool(self.views)

    @model_validator(mode="after")
    def _fits(self) -> What:
        if self.opens_pictures and len(self.image) > _MOST_OPENED:
            message = f"views and a region are of at most {_MOST_OPENED} pictures"
            raise PydanticCustomError("too_many_opened", message)
        if self.fuse is None and (self.fusion, self.rank_constant, self.window) != ("sum", 60, 100):
            raise PydanticCustomError("no_fuse", "fusion, rank_constant and window go with fuse")
        return self


class SearchRequest(What, _Page):
    """A search."""


class SearchRequestInUrl(_Asked, _Page):
    """A search, as far as it fits into a URL."""

    region: str | None = Field(
        None, pattern=r"^\d+(\.\d+)?(,\d+(\.\d+)?){3}$", description="left,top,right,bottom"
    )

    def to_request(self) -> SearchRequest:
        """The same as it would be posted."""
        values = self.model_dump()
        if self.region is not None:
            values["region"] = self.region.split(",")
        try:
            return SearchRequest.model_validate(values)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error


class ExplainRequest(What):
    """Which scores to explain."""

    k: int = Field(3, ge=1, le=100, description="How many of the best hits.")
    picture: PictureId | None = Field(None, description="This indexed picture instead.")


class FacetsRequest(What):
    """What to count; without words or pictures all that meets the conditions."""

    fields: list[str] | None = Field(None, max_length=20)
    size: int = Field(10, ge=1, le=1000, description="Values of each field.")


class UrlRequest(_Model):
    """A picture on the web."""

    url: str = Field(max_length=2000)


class ChangeRequest(_Model):
    """What to change of a document; what is left out stays."""

    labels: list[str] | None = Field(None, max_length=100)
    metadata: dict[str, Any] | None = None


class AddRequest(ChangeRequest):
    """Files and folders on the server, below its roots."""

    sources: list[str] = Field(min_length=1, max_length=100)


class LabelRequest(_Model):
    """Which documents get labels, or lose some."""

    pictures: list[PictureId] = Field(min_length=1, max_length=1_000)
    add: list[str] = Field([], max_length=100)
    drop: list[str] = Field([], max_length=100)


class RemoveRequest(_Model):
    """Which documents to remove; files stay."""

    pictures: list[PictureId] = Field(min_length=1, max_length=10_000)


class TeachRequest(_Model):
    """A word, and indexed pictures that show it and that do not."""

    word: str = Field(min_length=1, max_length=100)
    like: PictureIds
    unlike: PictureIds = []


class Click(_Model):
    """A picture of a search that was shown; both by their ids."""

    model_config = ConfigDict(extra="ignore")
    search: str = Field(min_length=1, max_length=200)
    picture: str = Field(min_length=1, max_length=200)


_BOX = "Where in the picture it scored best: left, top, right, bottom in pixels; with views only."


class TermAnswer(_Model):
    """A synset and its score."""

    synset: str
    score: float
    box: list[int] | None = Field(None, description=_BOX)


class PartAnswer(_Model):
    """What a part of a fused query adds to a score."""

    part: str
    weight: float
    score: float | None
    rank: int | None = None
    contribution: float


class _Picture(_Model):
    id: str
    uri: str
    labels: list[str]
    metadata: dict[str, Any]
    photo: dict[str, Any] | None = Field(None, description="How it was taken, from EXIF and XMP.")
    text: str | None = Field(None, description="What was read in it, by lines.")
    synsets: list[TermAnswer]
    colors: dict[str, float] | None = Field(None, description="Shares of the pixels, most first.")


class HitAnswer(_Picture):
    """One picture found."""

    rank: int
    score: float
    parts: list[PartAnswer] | None = None


class SearchAnswer(_Model):
    """Hits, best first, as ``imgsearch search --json`` prints them."""

    query: str
    hints: list[str]
    left_out: list[str]
    total: int = Field(description="Pictures that show what was asked for.")
    ranked: int = Field(description="Those, and those that show a trace of it.")
    total_is_exact: bool
    strategy: str
    exact: bool
    took_ms: float
    hits: list[HitAnswer]


class SuggestAnswer(_Model):
    """How a word may go on."""

    text: str
    kind: Literal["word", "taught", "label", "file", "field"]
    count: int | None = Field(description="Pictures that show the word best, or have the value.")


class SummandAnswer(_Model):
    """One summand of a score: query weight times document score, by the formula."""

    key: str
    query_weight: float
    document_score: float
    product: float
    box: list[int] | None = Field(None, description=_BOX)


class ExplainedPart(PartAnswer):
    """A part of a fused score with its own summands."""

    summands: list[SummandAnswer]


class ExplanationAnswer(_Model):
    """Why a picture scores what it scores."""

    id: str
    uri: str
    score: float
    summands: list[SummandAnswer] | None = None
    parts: list[ExplainedPart] | None = None


class ExplainAnswer(_Model):
    """As ``imgsearch explain --json`` prints it."""

    query: str
    explanations: list[ExplanationAnswer]


class FacetValue(_Model):
    """A value and how many pictures have it."""

    value: str
    count: int


FacetsAnswer = dict[str, list[FacetValue]]
"""By field, as ``imgsearch facets --json`` prints it."""


class _File(_Model):
    width: int
    height: int
    bytes: int
    format: str


class DocumentAnswer(_Picture, _File):
    """What the index holds of a picture."""

    filename: str
    sha256: str
    indexed_at: datetime


class UploadAnswer(_File):
    """An uploaded picture, to be used as ``image``, ``like`` or ``dislike``."""

    id: str
    expires_in_seconds: int


class RemovedAnswer(_Model):
    """As ``imgsearch remove --json`` prints it."""

    removed: int


class LabeledAnswer(_Model):
    """How many documents have other labels now."""

    changed: int


class WordAnswer(_Model):
    """A taught word, as ``imgsearch words --json`` prints it; examples by their URIs."""

    name: str
    synset: str
    like: list[str]
    unlike: list[str]
    quality: float | None
    pictures: int


class ForgottenAnswer(_Model):
    """As ``imgsearch forget --json`` prints it."""

    word: str
    pictures: int


class HealthAnswer(_Model):
    """Whether the index answers; how many pictures it has is told to those who may read."""

    status: Literal["ok", "unavailable"]
    pictures: int | None = None
    model: str | None = None


class ErrorDetail(_Model):
    """What went wrong and what to do."""

    kind: str
    message: str
    suggestions: list[str] = []


class ErrorAnswer(_Model):
    """Every error."""

    error: ErrorDetail


def described(document: Document) -> dict[str, Any]:
    """A document without its deep feature; named as hits name their parts."""
    plain = ("id", "uri", "filename", "sha256", "width", "height", "bytes", "format")
    return {name: getattr(document, name) for name in plain} | {
        "indexed_at": document.indexed_at.isoformat(),
        "labels": list(document.labels),
        "metadata": dict(document.metadata),
        "synsets": document.shown_terms(),
        **document.shown_colors(),
        **document.shown_photo(),
    }


def takes_form(*others: dict[str, Any], **fields: dict[str, Any]) -> dict[str, Any]:
    """Describes for OpenAPI a form of pictures and other fields, and other bodies."""
    pictures = {"type": "array", "items": {"type": "string", "format": "binary"}}
    properties = {"picture": pictures, **fields}
    schema = {"type": "object", "properties": properties, "required": ["picture"]}
    content: dict[str, Any] = {"multipart/form-data": {"schema": schema}}
    for other in others:
        content["application/json"] = {"schema": other}
    return {"requestBody": {"required": True, "content": content}}


def gives(kind: str) -> dict[str, Any]:
    """Describes for OpenAPI that a route's answer is of this kind, and no JSON."""
    return {"response_class": Response, "responses": {200: {"content": {kind: {}}}}}
