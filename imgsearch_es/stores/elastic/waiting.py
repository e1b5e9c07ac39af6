"""Waiting for a server that cannot answer now: it restarts, is overloaded, or its disk is full.

While an index is written, a request that meets such a server is sent again, after longer and longer
random times. So it may reach the server twice, which does no harm: documents are written and
removed by their ids. What cannot succeed is not tried again. A search does not wait.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar, cast

import tenacity
from elastic_transport import NodeConfig, Transport, TransportApiResponse
from elasticsearch import (
    ApiError,
    AuthorizationException,
    ConnectionTimeout,
    Elasticsearch,
    NotFoundError,
    SerializationError,
    SSLError,
    helpers,
)
from elasticsearch import ConnectionError as NoConnectionError

from imgsearch_es.errors import ServerError
from imgsearch_es.stores.base import ANSWER_SECONDS

LONGEST_SECONDS = 120.0
"""How long one request is tried."""
FIRST_SECONDS, PAUSE_SECONDS = 0.5, 10.0
_BUSY = frozenset([429, 502, 503, 504])
"""Too many requests (also: flood-stage watermark of the disk), and those of a server or proxy that
restarts."""
_OF_THE_INDEX = frozenset(["cluster_block_exception", "index_closed_exception"])
"""Errors of a document that are those of its index."""
_NOT_ALLOWED = "security_exception"
_FOR_GOOD = {*_OF_THE_INDEX, _NOT_ALLOWED, "illegal_argument_exception"}
"""Errors that no waiting ends; the last is that of an alias of two indices."""
TOO_LARGE = 413
_BLOCKED_SECONDS = 5
"""How long an index may be blocked for writing: whoever rebuilds it blocks it for a moment. Then
the block is taken for that of one who was killed; one who lives begins anew."""
BLOCKED = "-blocked-"
"""In an alias of an index that a program blocks to put another one in its place."""
REPLACED = "-replaced"
"""In an alias of an index in whose place another one is, until it is deleted."""
_IN_PLACE = "something else answers in its place, such as the login page of a proxy"
_CUT_OFF = "its answer is cut off"
_BULK_BYTES, _TOGETHER = 20 * 1024**2, 1000
"""Of documents that are written, and how many are read by their ids, in one request."""
T = TypeVar("T")
_log = logging.getLogger(__name__)


class BusyError(Exception):
    """The server cannot answer now, and why; it may be able to in a moment."""


class Patience:
    """Whether to wait for a server, and for how long; used from many threads."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._users = 0
        self._ended = False
        self._end = threading.Condition()  # an Event is not safe in a handler of signals
        self._since: float | None = None
        self._calling = threading.local()
        self.turn = threading.Lock()
        """Held to make a request, so that the first one is on its way while others are made."""
        self.together = _TOGETHER
        """Documents in one bulk request; fewer once the server, or a proxy, took no more."""

    @property
    def is_on(self) -> bool:
        """Whether this thread waits: not one whose answer is wanted soon, while another writes."""
        return self._users > 0 and ANSWER_SECONDS.get() == math.inf

    @contextmanager
    def waiting(self) -> Iterator[Callable[[], None]]:
        """Let requests wait within this block; what it gives, when called, ends all waiting."""
        with self._lock:
            self._users += 1
        try:
            yield self.end
        finally:
            with self._lock:
                self._users -= 1
                self._ended = self._ended and self._users > 0

    def end(self) -> None:
        """End all waiting at once; may be called in a handler of signals."""
        with self._end:
            self._ended = True
            self._end.notify_all()

    def call(self, attempt: Callable[[], T]) -> T:
        """Do something until it raises no BusyError; ServerError if it did so for too long.

        The request of an attempt is a call within this one: its answer alone may be a refusal.
        """
        is_within, self._calling.now = getattr(self._calling, "now", False), True
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(BusyError),
            stop=self._is_over,
            wait=tenacity.wait_random_exponential(FIRST_SECONDS, PAUSE_SECONDS, min=FIRST_SECONDS),
            sleep=self.pause,
            before_sleep=self._say_waiting,
        )
        try:
            answer = retrying(attempt)
        except tenacity.RetryError as error:
            last = error.last_attempt.exception()
            gave_up = self.is_on and not self._ended
            tried = f" for {LONGEST_SECONDS:.0f} seconds" if gave_up else ""
            raise ServerError(
                f"Elasticsearch at {self._server} does not answer{tried}: {last}. What was "
                "written is stored; run the command again when the server is well"
            ) from last
        finally:
            self._calling.now = is_within
        if not is_within:
            self._say_answered()
        return answer

    def pause(self, seconds: float) -> None:
        """Wait so long, or until all waiting is ended."""
        with self._end:
            self._end.wait_for(lambda: self._ended, seconds)

    def _is_over(self, state: tenacity.RetryCallState) -> bool:
        passed = state.seconds_since_start or 0.0
        return self._ended or not self.is_on or passed >= LONGEST_SECONDS

    def _say_waiting(self, state: tenacity.RetryCallState) -> None:
        with self._lock:
            if self._since is not None:
                return
            self._since = time.monotonic()
        reason = state.outcome.exception() if state.outcome else "no answer"
        said = "Elasticsearch at %s does not answer (%s): waiting for up to %.0f seconds"
        _log.warning(said, self._server, reason, LONGEST_SECONDS)

    def _say_answered(self) -> None:
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            seconds = time.monotonic() - since
            _log.warning("Elasticsearch answers again, after %.0f seconds", seconds)


class PatientTransport(Transport):
    """The client's transport, which waits while its ``patience`` is on."""

    _is_known = False
    """Whether Elasticsearch has answered, which says so by a header; until then the client asks."""

    def __init__(self, node_configs: Sequence[NodeConfig], **options: Any) -> None:
        super().__init__(list(node_configs), **options)
        node = node_configs[0]
        self.patience = Patience(f"{node.scheme}://{node.host}:{node.port}{node.path_prefix}")

    def perform_request(self, method: str, target: str, **options: Any) -> TransportApiResponse:
        if not self.patience.is_on:
            return self._send(method, target, options)

        def attempt() -> TransportApiResponse:
            try:
                answer = self._send(method, target, {**options, "max_retries": 0})
            except SSLError:
                raise
            except (NoConnectionError, ConnectionTimeout) as error:
                raise BusyError(last_cause(error.message)) from error
            if answer.meta.status in _BUSY:
                raise BusyError(f"status {answer.meta.status}{_cause(answer.body)}")
            shards = answer.body.get("_shards") if isinstance(answer.body, dict) else None
            if shards and shards.get("failed"):  # a part of the answer is missing
                raise BusyError(f"{shards['failed']} of {shards['total']} shards are not there")
            return answer

        return self.patience.call(attempt)

    def _send(self, method: str, target: str, options: dict[str, Any]) -> TransportApiResponse:
        """What Elasticsearch answers; NoConnectionError where it is not whole, or another's."""
        if (soon := ANSWER_SECONDS.get()) < math.inf:
            options = {**options, "request_timeout": min(soon, options["request_timeout"])}
        try:
            answer = super().perform_request(method, target, **options)
        except SerializationError as error:  # quotes all that came
            if "deserialize" not in error.message:
                raise
            raise NoConnectionError(_CUT_OFF) from error
        if 200 <= answer.meta.status < 300:
            is_its = answer.meta.headers.get("x-elastic-product") == "Elasticsearch"
            if self._is_known and not is_its:
                raise NoConnectionError(_IN_PLACE)
            if is_its and answer.body is None and method != "HEAD":
                raise NoConnectionError(_CUT_OFF)
            self._is_known = is_its
        return answer


def patience_of(client: Elasticsearch) -> Patience:
    """The patience of a client that ``connect`` gave."""
    return cast(PatientTransport, client.transport).patience


def bulk(
    client: Elasticsearch,
    index: str,
    items: Mapping[str, T],
    action: Callable[[T], dict[str, Any]],
    **options: Any,
) -> list[dict[str, Any]]:
    """Send items, given by id, in bulk; what the server is too busy for is sent again.

    ``action`` makes of an item what ``elasticsearch.helpers`` takes, when it is sent; ``options``
    are those of ``elasticsearch.helpers.streaming_bulk``. Gives the last word on each item;
    ServerError where the index takes none.
    """
    left, answers, why = dict(items), [], ""
    options = {"chunk_size": _TOGETHER, **options, "index": index}
    options |= {"raise_on_error": False, "max_chunk_bytes": _BULK_BYTES}
    patience = patience_of(client)

    def attempt() -> None:
        nonlocal why
        busy: Mapping[str, Any] | None = None
        with patience.turn:
            sent = [action(item) for item in left.values()]
        for answer in _answers(client, sent, options):
            if answer["status"] in _BUSY:
                busy = answer
            elif (kind := answer.get("error", {}).get("type")) in _OF_THE_INDEX:
                why = answer["error"]["reason"]
            elif kind == _NOT_ALLOWED:
                raise ServerError(f"nothing can be written: {answer['error']['reason']}")
            else:
                del left[answer["_id"]]
                answers.append(answer)
        if busy is not None:
            raise BusyError(f"status {busy['status']}{_cause(busy)}")

    with patience.waiting():
        for _ in range(_BLOCKED_SECONDS):
            patience.call(attempt)
            if not left:
                return answers
            patience.pause(1)
        with suppress(NotFoundError, AuthorizationException):
            if aliases := blocked_by(client, index):
                unblock(client, aliases)
                patience.call(attempt)
                if not left:
                    return answers
    raise ServerError(
        f"nothing can be written to {index}: {why.rstrip(';')}: open the index, take the block "
        "off it (index.blocks), or make room on the server's disk"
    )


def _answers(
    client: Elasticsearch, sent: Sequence[dict[str, Any]], options: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """What the server answers to each; where a request is too large for it, in smaller ones."""
    patience, done = patience_of(client), 0
    size = min(options["chunk_size"], patience.together)
    try:
        for _, outcome in helpers.streaming_bulk(client, sent, **{**options, "chunk_size": size}):
            done += 1
            yield from outcome.values()
    except ApiError as error:
        size = min(size, len(sent) - done)
        if error.status_code != TOO_LARGE or size == 1:
            raise
        patience.together = size // 2
        yield from _answers(client, sent[done:], options)


def facts_of(
    client: Elasticsearch, index: str, features: Sequence[str] = ("aliases",)
) -> dict[str, Any]:
    """What is said of an index, by its own name; nothing where there is none.

    Not asked by HEAD, to which a server does not say why it refuses.
    """
    try:
        return dict(client.indices.get(index=index, features=features))
    except NotFoundError as error:
        if error.error != "index_not_found_exception":
            raise
        return {}


def blocked_by(client: Elasticsearch, index: str) -> dict[str, list[str]]:
    """The aliases of those who block an index, or one behind an alias, by its own name."""
    found = client.indices.get_alias(index=index)
    ours = {name: [a for a in found[name]["aliases"] if BLOCKED in a] for name in found}
    return {name: aliases for name, aliases in ours.items() if aliases}


def unblock(client: Elasticsearch, blocked: Mapping[str, Sequence[str]]) -> None:
    """Take blocks off indices, as ``blocked_by`` gave them, before aliases are moved."""
    for index, aliases in blocked.items():
        remove = {"index": index, "aliases": aliases, "must_exist": True}
        client.indices.update_aliases(actions=[{"remove": remove}])
        client.indices.put_settings(index=index, settings={"index.blocks.write": None})


def discard(client: Elasticsearch, index: str) -> None:
    """Delete an index that another one has replaced: that is done, whatever becomes of this.

    And those of the same name whose programs were killed before they did.
    """
    names, stem = {index}, index[:-6]
    try:
        for name, facts in client.indices.get_alias(index=f"{stem}*").items():
            is_ours = name[:-6] == stem and all(a.startswith(f"{name}-") for a in facts["aliases"])
            if is_ours and name + REPLACED in facts["aliases"]:
                names.add(name)
        client.indices.delete(index=[*names], ignore_unavailable=True)
    except (ApiError, ServerError) as error:
        why = f": {error}" if isinstance(error, ServerError) else _cause(error.body)
        left = " and ".join(sorted(names))
        _log.warning("the rebuilt index is in place; delete %s, which could not be%s", left, why)


def deletions(ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The actions that remove documents, by id."""
    return {key: {"_op_type": "delete", "_id": key} for key in ids}


def sources_by_id(
    client: Elasticsearch, index: str, ids: Sequence[str], fields: Sequence[str] | bool = True
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Id and source, or these fields of it, of those of the ids that are stored, as written.

    Of an index that is gone, none. With False sources are empty. ServerError where a shard cannot
    answer, which does not say that a document is not there.
    """

    def attempt(part: Sequence[str]) -> list[Mapping[str, Any]]:
        answer = client.mget(index=index, ids=part, source=fields)
        for item in answer["docs"]:
            kind = item.get("error", {}).get("type", "index_not_found_exception")
            if kind in _FOR_GOOD:
                raise ServerError(f"the index {item['_index']} cannot be read{_cause(item)}")
            if kind != "index_not_found_exception":
                raise BusyError(f"{kind}{_cause(item)}")
        return [item for item in answer["docs"] if item.get("found")]

    for part in parts(ids):
        for item in patience_of(client).call(partial(attempt, part)):
            yield item["_id"], item.get("_source", {})


def parts(ids: Sequence[str]) -> Iterator[list[str]]:
    """So many ids as fit into one request."""
    for start in range(0, len(ids), _TOGETHER):
        yield list(ids[start : start + _TOGETHER])


def why_not(answer: Mapping[str, Any]) -> str:
    """The server's reason for refusing one document, cut off: it may quote the whole document."""
    error = answer.get("error", {})
    if not isinstance(error, Mapping):
        return f"{error!s:.300}"
    texts = error.get("reason", "refused"), error.get("caused_by", {}).get("reason")
    return ": ".join(f"{text!s:.300}" for text in texts if text)


def last_cause(message: str) -> str:
    """What the system said, such as "Connection refused", of a chain of causes."""
    found = re.search(r"\[Errno -?\d+\] ([^)\]']+)|'([^']+)'\)+$", message)
    return found[1] or found[2] if found else message.rpartition(": ")[2].rstrip(")'")


def _cause(body: Any) -> str:
    """The server's own words, with a colon before them."""
    error = body.get("error") if isinstance(body, Mapping) else None
    reason = error.get("reason") if isinstance(error, Mapping) else error
    return f": {reason!s:.300}" if reason else ""
