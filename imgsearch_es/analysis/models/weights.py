"""Files that analyzers name: where they are, and the fingerprint that says which they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from imgsearch_es.errors import AnalyzerError, WeightsError

_BLOCK = 1 << 20
_folder: ContextVar[Path] = ContextVar("_folder")


def fingerprint(path: Path, model: str) -> str:
    """Give "sha256:<hex>" of a file's bytes; a WeightsError if it cannot be read."""
    try:
        return f"sha256:{kept_digest(path, 'sha256')}"
    except OSError as error:
        raise WeightsError(f"cannot read {path} of {model}: {error.strerror}") from error


@contextmanager
def relative_to(folder: Path) -> Iterator[None]:
    """Within this block relative paths begin in the folder of the file that names them."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def absolute(path: str | os.PathLike[str]) -> Path:
    """The absolute path of what a person gave; symbolic links stay."""
    given = _folder.get(Path()) / Path(path).expanduser()
    return Path(os.path.abspath(given))  # noqa: PTH100 - keeps symlinks


def current_folder() -> Path:
    """Where relative paths begin now."""
    try:
        return absolute("")
    except FileNotFoundError:  # it was deleted: whole paths do without
        return Path()


def given_file(weights: str | os.PathLike[str], model: str) -> Path:
    """The absolute path of a file that a person gave; a WeightsError if there is none."""
    path = absolute(weights)
    if not path.is_file():
        found = "is not a file" if path.exists() else "does not exist"
        raise WeightsError(f"the file given as weights of {model} {found}: {path}")
    return path


def kept_digest(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file's bytes; one that has not changed is read only once."""
    state = path.stat()
    return _kept_digest(path, algorithm, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _kept_digest(path: Path, algorithm: str, size: int, mtime_ns: int) -> str:
    return digest_of(path, algorithm)


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of what is in a file now; it is read each time."""
    state = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


@dataclass(frozen=True)
class LearntFile:
    """A file that a part was learnt into; its place may change, and its content may not.

    A WeightsError if there is no such file, or its content is another than ``sha256`` says.
    """

    path: str
    """Kept as an absolute path."""
    sha256: str = ""
    """Of its bytes, in hexadecimal; found out when it is not given."""
    what: ClassVar[str] = "a learnt part"
    """What the file is of, for messages."""

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not isinstance(self.sha256, str):
            raise AnalyzerError(f"{self.what} needs path, and sha256 is a text")
        file = given_file(self.path, self.what)
        found = fingerprint(file, self.what).partition(":")[2]
        if self.sha256 and self.sha256 != found:
            raise WeightsError(
                f"{file} is not the file that was recorded, by its sha256: give the right one in "
                "the analyzer's configuration (--analyzer), or index the pictures again under "
                "another name"
            )
        object.__setattr__(self, "path", str(file))
        object.__setattr__(self, "sha256", found)

    def check(self) -> None:
        """See that it is still the same file, before it is read; raises as making one does."""
        replace(self)


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, and those in it, without the places of files that it names by sha256."""
    return {
        key: without_paths(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key != "path" or "sha256" not in config
    }
