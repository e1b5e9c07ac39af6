"""Files of weights: their fingerprints, and the ones that Keras publishes for its applications.

Downloads go where Keras keeps them (``~/.keras/models``), under Keras's names, so both share
them. Unlike ``keras.utils.get_file`` this needs no TensorFlow, gives up on a silent server, prints
nothing on standard output, and never leaves part of a file under the final name.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from imgsearch_es.errors import WeightsError

_log = logging.getLogger(__name__)
_BLOCK = 1 << 20
_TIMEOUT = 20.0
"""Seconds without a byte from the server until a download is given up."""


@dataclass(frozen=True, slots=True)
class Published:
    """A file of weights on the web.

    Attributes:
        model: the model's name, for messages.
        url: where it is; the last part is the name it is kept under.
        checksum: "md5:<hex>" or "sha256:<hex>" as Keras gives it; "" where Keras gives none.
    """

    model: str
    url: str
    checksum: str

    @property
    def path(self) -> Path:
        """Where Keras keeps it, whether it is there or not."""
        return _keras_cache() / self.url.rpartition("/")[2]

    def is_here(self) -> bool:
        """Whether the file is on this machine (its content is not checked)."""
        return self.path.is_file()

    def fetch(self) -> Path:
        """Give the file, downloaded and checked where need be.

        Raises:
            WeightsError: it cannot be downloaded, or what came is not what was published.
        """
        if self.is_here():
            if self._is_intact(self.path):
                return self.path
            _log.warning("%s is damaged or incomplete; downloading it again", self.path)
        try:
            self._download()
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise WeightsError(
                f"the weights of {self.model} could not be downloaded from {self.url} "
                f"({_reason(error)}). Give a file of them with --weights FILE, or use "
                "--model efficientnet-lite0, which needs no download."
            ) from error
        return self.path

    def _is_intact(self, path: Path) -> bool:
        algorithm, _, digest = self.checksum.partition(":")
        return not digest or _digest(path, algorithm) == digest

    def _download(self) -> None:
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{self.path.name}.", suffix=".part", dir=folder)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                self._copy_to(file)
            if not self._is_intact(part):
                raise OSError("the checksum of the downloaded file is wrong")
            part.chmod(0o644)
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)

    def _copy_to(self, file: IO[bytes]) -> None:
        from rich.console import Console
        from rich.progress import wrap_file

        with urllib.request.urlopen(self.url, timeout=_TIMEOUT) as response:  # noqa: S310 - https
            total = int(response.headers.get("Content-Length") or 0)
            _log.warning(
                "downloading the weights of %s (%d MB) to %s", self.model, total >> 20, self.path
            )
            console = Console(stderr=True)
            quiet = not total or not console.is_terminal
            with wrap_file(
                response, total, description="", console=console, disable=quiet
            ) as source:
                shutil.copyfileobj(source, file, _BLOCK)
            if total and (done := file.tell()) != total:
                raise OSError(f"the connection ended after {done} of {total} bytes")


def fingerprint(path: Path, model: str) -> str:
    """Give "sha256:<hex>" of a file's bytes; a file that has not changed is read only once.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        return f"sha256:{_digest(path, 'sha256')}"
    except OSError as error:
        raise WeightsError(
            f"cannot read the weights of {model}, {path}: {error.strerror or error}"
        ) from error


_folder: ContextVar[Path] = ContextVar("_folder")


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


def given_file(weights: str | os.PathLike[str], model: str) -> Path:
    """The absolute path of a file that a person gave.

    Raises:
        WeightsError: there is no such file.
    """
    path = absolute(weights)
    if not path.is_file():
        found = "is not a file" if path.exists() else "does not exist"
        raise WeightsError(f"the file given as weights of {model} {found}: {path}")
    return path


def _keras_cache() -> Path:
    """Keras's rule: KERAS_HOME, else ~/.keras, else (not writable) a temporary folder."""
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    writable = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(writable, os.W_OK) and not (home / "models").is_dir():
        home = Path(tempfile.gettempdir(), ".keras")
    return home / "models"


def _digest(path: Path, algorithm: str) -> str:
    state = path.stat()
    return _kept_digest(path, algorithm, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _kept_digest(path: Path, algorithm: str, size: int, mtime_ns: int) -> str:
    return digest_of(path, algorithm)


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of what is in a file now; it is read each time.

    Raises:
        OSError: the file cannot be read.
    """
    state = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, TimeoutError):
        return f"the server was silent for {_TIMEOUT:.0f} seconds"
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(getattr(reason, "strerror", None) or reason)
