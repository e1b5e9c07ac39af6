"""Fuzz the language of queries: a text is a query that prints as it reads, or a QueryError.

python -m tests.fuzz.language -max_total_time=60
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["imgsearch_es"]):
    from imgsearch_es.errors import QueryError
    from imgsearch_es.retrieval import conditions  # noqa: F401 - to be instrumented
    from imgsearch_es.retrieval.language import parse_words
    from imgsearch_es.vocabulary import words  # noqa: F401 - to be instrumented
    from imgsearch_es.vocabulary.synsets import imagenet

VOCABULARY = imagenet()


def check(data: bytes) -> None:
    """Read a line and its canonical form."""
    provider = atheris.FuzzedDataProvider(data)
    text = provider.ConsumeUnicode(sys.maxsize)
    try:
        read = parse_words(text, VOCABULARY)
    except QueryError:
        return
    again = parse_words(str(read), VOCABULARY)
    assert again == read, (text, str(read), str(again))


if __name__ == "__main__":
    atheris.Setup([*sys.argv, "-timeout=5"], check)
    atheris.Fuzz()
