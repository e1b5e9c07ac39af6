"""Pictures that are sent as a form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from imgsearch_es.errors import QueryError

PICTURE = "picture"
_MOST_PICTURES = 8
_MOST_FIELDS = 100


def form_content(**fields: dict[str, Any]) -> dict[str, Any]:
    """Describes for OpenAPI a form of pictures and other fields, each given by its schema."""
    pictures = {"type": "array", "items": {"type": "string", "format": "binary"}}
    properties = {PICTURE: pictures, **fields}
    schema = {"type": "object", "properties": properties, "required": [PICTURE]}
    return {"multipart/form-data": {"schema": schema}}


@asynccontextmanager
async def pictures_of(
    http: Request, field: str | None = None, most: int = _MOST_PICTURES
) -> AsyncIterator[tuple[list[UploadFile], list[str]]]:
    """The pictures of a form, and the texts of its only other field.

    Raises:
        QueryError: there is no picture, or something else that would be passed over.
    """
    async with http.form(max_files=most, max_fields=_MOST_FIELDS) as form:
        pictures, texts = [], []
        for name, value in form.multi_items():
            if name not in (PICTURE, field):
                known = f"{PICTURE!r} and {field!r}" if field else f"{PICTURE!r} only"
                raise QueryError(f"the form has a field {name[:40]!r}: it takes {known}")
            if isinstance(value, UploadFile) and name == PICTURE:
                pictures.append(value)
            elif isinstance(value, str) and name == field:
                texts.append(value)
            else:
                kind = "file" if name == PICTURE else "text"
                raise QueryError(f"the form field {name!r} takes a {kind}")
        if not pictures:
            raise QueryError(f"no picture was uploaded: send it as the form field {PICTURE!r}")
        yield pictures, texts
