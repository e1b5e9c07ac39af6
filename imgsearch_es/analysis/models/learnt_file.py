"""A file that a part of an analyzer was learnt into: where it is, and which file it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from imgsearch_es.analysis.models.weights import fingerprint, given_file
from imgsearch_es.errors import AnalyzerError, WeightsError


@dataclass(frozen=True)
class LearntFile:
    """A file whose place may change, and whose content may not.

    Attributes:
        path: of the file; kept as an absolute path.
        sha256: of its bytes, in hexadecimal; found out when it is not given.

    Raises:
        WeightsError: there is no such file, or its content is another than ``sha256`` says.
    """

    path: str
    sha256: str = ""

    what: ClassVar[str] = "a learnt part"
    """What the file is of, for messages."""

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not isinstance(self.sha256, str):
            raise AnalyzerError(f"{self.what} needs path, and sha256 is a text")
        file = given_file(self.path, self.what)
        found = fingerprint(file, self.what).partition(":")[2]
        if self.sha256 and self.sha256 != found:
            raise WeightsError(
                f"{file} is not the file that was recorded: its sha256 begins with {found[:12]}, "
                f"not {self.sha256[:12]}; give the right file in the analyzer's configuration "
                "(--analyzer), or index the pictures again under another name"
            )
        object.__setattr__(self, "path", str(file))
        object.__setattr__(self, "sha256", found)

    def check(self) -> None:
        """See that it is still the same file, before it is read.

        Raises:
            WeightsError: it is gone, or another one.
        """
        replace(self)


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, and those in it, without the places of files that it names by sha256."""
    return {
        key: without_paths(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key != "path" or "sha256" not in config
    }
