"""Names and passwords in URLs: this process fetches with them, and nothing stores or shows them."""

from __future__ import annotations

import re

_SCHEMES = r"\b(?P<scheme>https?|ftps?|sftp|ssh|smb|hdfs|webhdfs)://"
_USER = re.compile(_SCHEMES + r"(?P<user>[^/?#]*)@(?P<host>[^/?#@]*)", re.IGNORECASE)
_PLACE = re.compile(_SCHEMES + r"[^/?#]*", re.IGNORECASE)
_given: dict[str, str] = {}
"""What people wrote, by what is left of it."""


def without_credentials(url: str) -> str:
    """A URL without password, over HTTP also without name, which may be a token."""

    def cut(found: re.Match[str]) -> str:
        user, colon, _ = found["user"].partition(":")
        is_web = found["scheme"].lower().startswith("http")
        name = "" if is_web or not user else f"{user}@"
        if not (colon or is_web):
            return found[0]
        left = f"{found['scheme']}://{name}{found['host']}"
        _given[left] = found[0]
        return left

    return _USER.sub(cut, url)


def with_credentials(url: str) -> str:
    """A URL as it was last given to this process."""
    return _PLACE.sub(lambda found: _given.get(found[0], found[0]), url)
