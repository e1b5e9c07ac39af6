"""Asks for what a benchmark compares with before it starts anything."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from imgsearch_es.errors import pip_install


@contextmanager
def needs(extras: str) -> Iterator[None]:
    """Around imports of packages that extras bring; where one is missing the script ends."""
    try:
        yield
    except ModuleNotFoundError as error:
        sys.exit(f"error: {sys.argv[0]} needs {error.name}: {pip_install(extras)}")
