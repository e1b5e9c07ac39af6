"""Puts saved objects into a running Kibana, by its import API.

https://www.elastic.co/docs/api/doc/kibana/operation/operation-post-saved-objects-import. Kibana is
asked again while it starts, which takes it a minute; the objects replace those of their ids, so it
does no harm if a request arrives twice.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import tenacity
import urllib3

from imgsearch_es.errors import ConfigurationError, ServerError
from imgsearch_es.interfaces.kibana.dashboard import SavedObject, to_ndjson
from imgsearch_es.stores.elastic.connection import client_options, split_url
from imgsearch_es.stores.elastic.waiting import last_cause

_SPACE = re.compile(r"[a-z0-9_-]+")
_STARTING = frozenset([429, 502, 503, 504])
_LISTED = 3
_PAUSE_SECONDS = 2.0
_REQUEST_SECONDS = urllib3.Timeout(connect=10.0, read=60.0)


class _NotReadyError(Exception):
    """Kibana cannot answer now, and why; it may be able to in a moment."""


@dataclass(frozen=True, slots=True)
class Kibana:
    """Where Kibana is, and how to get in: with headers, which are never shown, and certificates."""

    server: str
    space: str | None
    options: Mapping[str, Any] = field(repr=False)

    @classmethod
    def at(cls, url: str, space: str | None = None) -> Kibana:
        """Take apart ``https://user:password@host:5601``.

        Credentials and certificates come from where those of Elasticsearch come from: the URL, else
        IMGSEARCH_ES_API_KEY, or IMGSEARCH_ES_USERNAME and IMGSEARCH_ES_PASSWORD, and
        IMGSEARCH_ES_CA_CERTS.

        Raises:
            ConfigurationError: it is no URL, or the space cannot be one.
        """
        parts, server = split_url(url)
        if space is not None and not _SPACE.fullmatch(space):
            raise ConfigurationError(
                f"a space has lower-case letters, digits, '_' and '-' in its name, not {space!r}; "
                "Kibana shows it in its URL as /s/NAME"
            )
        options = client_options(url)
        headers = {"kbn-xsrf": "imgsearch_es"}
        if "api_key" in options:
            headers["authorization"] = f"ApiKey {options['api_key']}"
        elif "basic_auth" in options:
            pair = ":".join(options["basic_auth"]).encode()
            headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        trusted = {"ca_certs": options["ca_certs"]} if "ca_certs" in options else {}
        return cls(server + parts.path.rstrip("/"), space, {"headers": headers, **trusted})

    @property
    def root(self) -> str:
        """The URL that pages of Kibana begin with."""
        return self.server if self.space is None else f"{self.server}/s/{self.space}"

    def dashboard_url(self, dashboard: str) -> str:
        """Where people see a dashboard."""
        return f"{self.root}/app/dashboards#/view/{quote(dashboard, safe='~')}"

    def install(self, objects: Sequence[SavedObject], *, seconds: float = 60.0) -> int:
        """Put objects in, in the place of those with their ids; gives their number.

        For so many seconds it waits for a Kibana that starts.

        Raises:
            ServerError: Kibana cannot be reached, refuses us, or refuses an object.
        """
        waiting = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_NotReadyError),
            stop=tenacity.stop_after_delay(seconds),
            wait=tenacity.wait_fixed(_PAUSE_SECONDS),
        )
        try:
            status, answer = waiting(self._post, to_ndjson(objects))
        except tenacity.RetryError as error:
            last = error.last_attempt.exception()
            raise ServerError(
                f"Kibana at {self.server} does not answer after {seconds:g} seconds: {last}"
            ) from last
        return self._installed(status, answer)

    def _post(self, ndjson: str) -> tuple[int, dict[str, Any]]:
        with urllib3.PoolManager(retries=False, timeout=_REQUEST_SECONDS, **self.options) as pool:
            try:
                response = pool.request(
                    "POST",
                    f"{self.root}/api/saved_objects/_import?overwrite=true",
                    fields={"file": ("imgsearch.ndjson", ndjson, "application/ndjson")},
                    redirect=False,
                )
            except urllib3.exceptions.SSLError as error:
                raise ServerError(
                    f"the certificate of {self.server} is not trusted: give its authority by "
                    f"IMGSEARCH_ES_CA_CERTS ({last_cause(str(error))})"
                ) from error
            except urllib3.exceptions.HTTPError as error:
                raise _NotReadyError(last_cause(str(error))) from error
        if response.status in _STARTING:
            said = " ".join(response.data[:200].decode("utf-8", "replace").split())
            raise _NotReadyError(f"status {response.status}, {said or 'without a reason'}")
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = None
        return response.status, answer if isinstance(answer, dict) else {}

    def _installed(self, status: int, answer: dict[str, Any]) -> int:
        if status in (401, 403):
            raise ServerError(
                f"Kibana at {self.server} refuses us ({status}): give credentials by "
                "IMGSEARCH_ES_API_KEY, or IMGSEARCH_ES_USERNAME and IMGSEARCH_ES_PASSWORD, of a "
                "user with the privilege Saved Objects Management"
            )
        if status == 404:
            where = "" if self.space is None else f", or it has no space {self.space!r}"
            raise ServerError(
                f"{self.root} is not a Kibana{where}: is it the URL that you open in the browser?"
            )
        if status != 200 or "successCount" not in answer:
            reason = str(answer.get("message") or "the answer is not that of a Kibana")[:300]
            raise ServerError(f"Kibana at {self.server}: {reason} (status {status})")
        if not answer.get("success"):
            raise ServerError(f"Kibana at {self.server} refuses {_refused(answer)}")
        return int(answer["successCount"])


def _refused(answer: Mapping[str, Any]) -> str:
    errors = answer.get("errors", [])
    each = [f"{one.get('type')} {one.get('id')} ({_why(one.get('error', {}))})" for one in errors]
    more = f" and {len(errors) - _LISTED} more" if len(errors) > _LISTED else ""
    return f"{len(errors)} objects: {', '.join(each[:_LISTED])}{more}"


def _why(error: Mapping[str, Any]) -> str:
    if error.get("type") == "missing_references":
        missing = [f"{item['type']} {item['id']}" for item in error.get("references", [])]
        return f"missing: {', '.join(missing)}"
    return str(error.get("message") or error.get("type") or "no reason given")
