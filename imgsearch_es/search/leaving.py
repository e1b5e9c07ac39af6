"""Hits leave: as files in a folder, as a table, as CSV."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from imgsearch_es.errors import ImageError, SourceError, needed
from imgsearch_es.pictures.files import read_bytes, reason, replacing, saving, to_path
from imgsearch_es.pictures.manifests import to_cell
from imgsearch_es.search.hit import Hit


class Leaving(Sequence[Hit]):
    """Hits that can be taken elsewhere."""

    def copy_to(self, folder: str | Path) -> list[Path]:
        """Copy the pictures into a folder, which is made; gives where they are, in their order.

        Nothing is written over: of two pictures with one name the second is called ``NAME (2)``.
        One that is there already, with the same bytes, stays.

        >>> [path.name for path in hits[:2].copy_to("chosen")]
        ['motorcycle_left-cropped.jpg', 'motorcycle_left-mirrored.jpg']

        Raises:
            SourceError: some cannot be copied; the message names the first, the others are there.
        """
        return _put(self, folder, _copy, "copied")

    def link_to(self, folder: str | Path) -> list[Path]:
        """Put symbolic links to the pictures into a folder; otherwise as ``copy_to``.

        >>> [path.name for path in hits[:1].link_to("chosen")]
        ['motorcycle_left-cropped.jpg']
        """
        return _put(self, folder, _link, "linked")

    def to_frame(self) -> Any:
        """A row for each hit, as a ``pandas.DataFrame`` (needs pandas).

        Where no hit has metadata there is None, as Parquet has no objects without names.

        >>> index.search("tabby cat", k=2).to_frame()[["rank", "score"]].shape
        (2, 2)
        """
        pandas = needed("pandas", "hits.to_frame() needs pandas", "notebook")
        rows = list(map(_row, self))
        if not any(row["metadata"] for row in rows):
            rows = [{**row, "metadata": None} for row in rows]
        return pandas.DataFrame(rows, columns=_COLUMNS)

    def to_csv(self, path: str | Path | None = None) -> str:
        """The same as CSV, with a column for each field of the metadata; written to ``path``.

        Lists are JSON, and metadata that is no text, so that it is a list of pictures as
        `PictureList` reads them.

        >>> hits.to_csv("hits.csv").count("motorcycle") > 2
        True
        """
        rows = list(map(_row, self))
        names = dict.fromkeys(f"metadata.{name}" for row in rows for name in row["metadata"])
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, [*_COLUMNS[:-1], *names], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            metadata = row.pop("metadata")
            lists = {name: to_cell(row[name]) for name in ("label", "keywords")}
            own = {f"metadata.{name}": to_cell(value) for name, value in metadata.items()}
            writer.writerow({**row, **lists, **own})
        text = out.getvalue()
        if path is not None:
            with saving(Path(path).expanduser().absolute()) as draft:
                draft.write_text(text, encoding="utf-8", newline="")
        return text


_COLUMNS = (
    "rank", "score", "uri", "filename", "label", "synset", "width", "height", "bytes", "format",
    "taken_at", "camera", "lens", "latitude", "longitude", "caption", "keywords", "metadata",
)  # fmt: skip


def _row(hit: Hit) -> dict[str, Any]:
    photo, document = hit.photo, hit.document
    latitude, longitude = photo.place or (None, None)
    return {
        "rank": hit.rank,
        "score": hit.score,
        **{name: getattr(document, name) for name in ("uri", "filename")},
        "label": list(hit.labels),
        "synset": hit.synsets[0].key if hit.synsets else None,
        **{name: getattr(document, name) for name in ("width", "height", "bytes", "format")},
        **{name: getattr(photo, name) or None for name in ("taken_at", "camera", "lens")},
        "latitude": latitude,
        "longitude": longitude,
        "caption": photo.caption or None,
        "keywords": list(photo.keywords),
        "metadata": dict(hit.metadata),
    }


def _put(
    hits: Iterable[Hit], folder: str | Path, put: Callable[[Hit, Path], None], done: str
) -> list[Path]:
    if not str(folder):
        raise SourceError(f"the folder is empty, to which pictures are to be {done}")
    target = Path(folder).expanduser().absolute()
    try:
        target.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # the latter of a null character
        raise SourceError(f"cannot make the folder {target}: {reason(error)}") from error
    paths, problems = list[Path](), list[str]()
    for hit in hits:
        try:
            path = _free(hit, target)
            if not path.exists():
                put(hit, path)
            paths.append(path)
        except ImageError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{hit.uri}: {reason(error)}")
    if problems:
        raise SourceError(
            f"{len(problems)} of {len(paths) + len(problems)} pictures could not be {done} to "
            f"{target}: {problems[0]}"
        )
    return paths


def _free(hit: Hit, folder: Path) -> Path:
    """Where a picture goes: a name that nothing has, or that it has itself already."""
    name = Path(hit.filename.replace("/", "_").replace("\0", "_"))
    number = 1
    while True:
        path = folder / (name if number == 1 else f"{name.stem} ({number}){name.suffix}")
        if not path.is_symlink() and not path.exists():
            return path
        if path.exists() and _is_same(hit, path):
            return path
        number += 1


def _is_same(hit: Hit, path: Path) -> bool:
    source = to_path(hit.uri)
    if source is not None and source.exists():
        if source.samefile(path):
            return True
        if source.stat().st_size != path.stat().st_size:
            return False
        return source.read_bytes() == path.read_bytes()
    return read_bytes(hit.uri) == path.read_bytes()


def _copy(hit: Hit, path: Path) -> None:
    source = to_path(hit.uri)
    with replacing(path) as draft:
        if source is None:
            draft.write_bytes(read_bytes(hit.uri))
        else:
            shutil.copy2(source, draft)


def _link(hit: Hit, path: Path) -> None:
    source = to_path(hit.uri)
    if source is None:
        raise ImageError(hit.uri, "is no local file, which a link could lead to")
    if not source.exists():
        raise ImageError(hit.uri, "the file is gone")
    path.symlink_to(source)
