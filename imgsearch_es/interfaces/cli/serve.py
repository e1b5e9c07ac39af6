"""``imgsearch serve``, ``map`` and ``kibana``: an index as a page, an API, a map or a dashboard."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.errors import ConfigurationError, ImgsearchError
from imgsearch_es.interfaces.cli import options
from imgsearch_es.interfaces.cli.options import Analyzing, Index, Natural, Positive, Where
from imgsearch_es.interfaces.cli.output import answer, print_table, say, warn
from imgsearch_es.pictures.files import saving

if TYPE_CHECKING:
    from imgsearch_es.interfaces.kibana import SavedObject
    from imgsearch_es.interfaces.server.guard import ServerSettings


_MOST_SEARCHERS = 8


@dataclass(frozen=True)
class Serving:
    """Where and to whom, and within which limits.

    Options:
        --host: The address to listen on. Any address but loopback needs a token.
        --port: The port; 0 takes a free one.
        --root DIR: Serve and add only pictures in this folder. Repeat it for more.
        --uploads DIR: Where to keep pictures that people upload.
        --lexicon FILE: Words of another language: a wordnet in WN-LMF. By default
            IMGSEARCH_LEXICON.
        --log FILE: Log what is shown and clicked to this file, for `imgsearch clicks`.
    Access:
        --host-name: A name by which people reach the server. Repeat it for more.
        --proxy ADDRESS: A proxy, or a network of proxies, whose X-Forwarded-For to believe. Needs a
            token. Repeat it for more.
        --allow-urls: Let people search with pictures from public web servers.
    Limits:
        --max-upload: The largest upload, in megabytes.
        --max-megapixels: The largest picture, in megapixels.
        --timeout: Give up on an answer after this many seconds.
        --rate: Requests a second from one client; 0 sets no limit.
        --cache: Thumbnails to keep on disk, in megabytes.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    root: list[Path] | None = None
    uploads: Path | None = None
    lexicon: Path | None = None
    log: Annotated[Path | None, typer.Option(envvar="IMGSEARCH_LOG")] = None
    host_name: list[str] | None = None
    proxy: list[str] | None = None
    allow_urls: bool = False
    max_upload: Positive = 20
    max_megapixels: Positive = 50
    timeout: float = 30.0
    rate: float = 20.0
    cache: Positive = 2048

    def settings(self) -> ServerSettings:
        """As the server takes them."""
        from imgsearch_es.interfaces.server.guard import ServerSettings
        from imgsearch_es.pictures.files import Limits

        # The page goes on where it cannot write its log, so a slip is told at the start.
        log = self.log and self.log.expanduser()
        if log and (log.is_dir() or not log.parent.is_dir()):
            why = "it is a folder" if log.is_dir() else f"there is no folder {log.parent}"
            raise ConfigurationError(f"cannot write the log {log}: {why}")
        return ServerSettings(
            host=self.host,
            port=self.port,
            token=os.environ.get("IMGSEARCH_TOKEN") or None,
            host_names=tuple(self.host_name or ()),
            proxies=tuple(self.proxy or ()),
            roots=tuple(self.root or ()),
            upload_folder=self.uploads,
            allow_urls=self.allow_urls,
            upload_limits=Limits(self.max_megapixels * 1_000_000, self.max_upload * 1024**2, 10.0),
            request_seconds=self.timeout,
            rate=self.rate,
            cache_bytes=self.cache * 1024**2,
            log=self.log,
            processes=min(cores, _MOST_SEARCHERS) if (cores := os.cpu_count() or 1) > 1 else 0,
        )


def serve(
    *,
    index: Index = None,
    serving: Serving,
    analyzing: Analyzing,
    warm_up: bool = True,
    wait: bool = False,
) -> None:
    """Serve a page and an API for an index.

    Only this machine can reach it, unless you give --host or --proxy. Then set the environment
    variable IMGSEARCH_TOKEN to a token, which every request must carry. With a token, people can
    also add and remove pictures. Ctrl-C stops the server.

    Analyzer:
        --warm-up: Load the model at the start, not at the first query by picture.
        --wait: Where there is no index yet, serve a page that waits for it and says how to make it.
    """
    # In blocks of this size the C library gives a large picture's memory back; of smaller ones each
    # thread keeps some. To be set before Pillow is loaded.
    os.environ.setdefault("PILLOW_BLOCK_SIZE", "64m")
    from imgsearch_es.interfaces.server import check_installed

    check_installed()
    from imgsearch_es.interfaces.server.app import run_server
    from imgsearch_es.interfaces.server.batching import ServedIndex

    settings = serving.settings()
    served = ServedIndex(index, **vars(analyzing), lexicon=serving.lexicon)

    def tell(url: str) -> None:
        answer({"url": url, "index": served.location}, indent=None)
        say(f"{served.location} at {url}  (Ctrl-C ends it)")
        if settings.token is None:
            say("read only: to label, teach and remove, start it with a token in IMGSEARCH_TOKEN")
        sys.stdout.flush()

    run_server(served, settings, warm_up=warm_up, wait=wait, tell=tell, say=warn)


def map_(
    *,
    index: Index = None,
    out: Path = Path("map.png"),
    method: str = "tsne",
    color: str = "label",
    where: Where = None,
    limit: int = 5_000,
    thumbnails: Natural = 150,
    seed: Natural = 0,
) -> None:
    """Draw a map of the pictures by their deep features.

    Those with similar features lie near each other.

    Neighborhoods mean something; distances between clusters and their sizes do not.

    Options:
        --out, -o FILE: PNG, SVG or PDF.
        --method: tsne or umap.
        --color: By label (the first) or synset (the best).
        --limit: The most pictures to draw; of more, a random choice.
        --thumbnails: The most thumbnails to draw.
        --seed: The seed of the layout.
    """
    from imgsearch_es.interfaces.maps import map_collection
    from imgsearch_es.interfaces.plots import check_figure

    chosen = options.conditions(where)
    check_figure(out, "map")
    with options.opened(index) as target:
        found = map_collection(
            target, method=method, color=color, where=chosen, limit=limit, seed=seed
        )
    found.save(out, thumbnails=thumbnails)
    rows = zip(found.uris, found.kinds, found.points.tolist(), strict=True)
    pictures = [{"uri": uri, "kind": kind, "point": point} for uri, kind, point in rows]
    answer({"file": str(out), "method": method, "pictures": pictures})
    say(f"{out}: {len(found.uris):,} pictures by {method}, colored by {color}")


def export(
    *,
    file: Path,
    index: Index = None,
    page: str | None = None,
    visual_words: bool = False,
    api: bool = False,
    force: bool = False,
) -> None:
    """Write the dashboard, its panels and data views into a file.

    Import it in Kibana 8.15 or newer: Stack Management, Saved Objects, Import.
    No server is asked, except with --visual-words.

    Options:
        file FILE: The file to write, such as pets.ndjson.
        --api: Write requests of the dashboards API of Kibana 9.4, to paste into its console. Panels
            drawn by Vega have no form there, and are left out.
        --page URL: The URL of `imgsearch serve`, for links to the pictures.
        --visual-words: Add a panel of the three heaviest visual words of each picture, by their
            names.
        --force: Overwrite the file.
    """
    from imgsearch_es.interfaces.kibana import to_ndjson
    from imgsearch_es.interfaces.kibana.install import to_requests

    name, objects, listed = _objects(index, page, visual_words)
    if file.exists() and not force:
        raise ConfigurationError(f"{file} exists; --force overwrites it")
    with saving(file) as draft:
        draft.write_text(to_requests(objects) if api else to_ndjson(objects), encoding="utf-8")
    answer({"file": str(file), "index": name, "objects": listed})
    print_table(("type", "title"), [(each["type"], each["title"]) for each in listed])
    say(f"{file}: {len(objects)} saved objects of the index {name}")


def install(
    *,
    kibana: Annotated[str, typer.Option(envvar="IMGSEARCH_KIBANA")],
    index: Index = None,
    page: str | None = None,
    visual_words: bool = False,
    space: str | None = None,
    wait: Annotated[float, typer.Option(min=0)] = 60.0,
) -> None:
    """Put the dashboard, its panels and data views into a running Kibana.

    It replaces what was installed before for the same index. Credentials and
    certificates are those of Elasticsearch: IMGSEARCH_ES_API_KEY, or
    IMGSEARCH_ES_USERNAME and IMGSEARCH_ES_PASSWORD; IMGSEARCH_ES_CA_CERTS.

    Options:
        --kibana URL: The URL of Kibana, such as http://localhost:5601.
        --page URL: The URL of `imgsearch serve`, for links to the pictures.
        --visual-words: Add a panel of the three heaviest visual words of each picture, by their
            names.
        --space NAME: A space of Kibana other than the default.
        --wait SECONDS: How long to wait while Kibana starts.
    """
    from imgsearch_es.interfaces.kibana import dashboard_id
    from imgsearch_es.interfaces.kibana.install import Kibana

    target = Kibana.at(kibana, space)
    name, objects, listed = _objects(index, page, visual_words)
    count = target.install(objects, seconds=wait)
    with suppress(ImgsearchError):  # Kibana may be in reach where Elasticsearch is not
        if _is_lean(index):
            warn(
                f"{name} is a lean index, without _source: the panels are drawn, but the table of "
                "pictures stays empty, and the search bar does not know hypernyms"
            )
    url = target.dashboard_url(dashboard_id(name))
    answer({"dashboard": url, "index": name, "objects": listed})
    say(f"{count} saved objects of the index {name} are in {target.root}", url)


def _objects(
    index: str | None, page: str | None, visual_words: bool
) -> tuple[str, list[SavedObject], list[dict[str, str]]]:
    """The name of the index, its saved objects, and how these are listed."""
    from imgsearch_es.interfaces.kibana import index_name, saved_objects

    name = index_name(index)
    words = None
    if visual_words:
        if _is_lean(index):
            raise ConfigurationError(
                f"{name} is a lean index: the panel of visual words reads _source, which it does "
                "not have; leave --visual-words out, or `imgsearch reindex --layout full`"
            )
        with options.opened(index) as source:
            words = source.word_names()
    objects = saved_objects(name, page, words)
    titles = [str(item.attributes.get("name") or item.attributes["title"]) for item in objects]
    listed = [
        {"type": item.type, "id": item.id, "title": title}
        for item, title in zip(objects, titles, strict=True)
    ]
    return name, objects, listed


def _is_lean(index: str | None) -> bool:
    with options.opened(index) as source:
        return source.store.stats().get("layout") == "lean"


kibana = typer.Typer(
    help="Show an index of Elasticsearch in Kibana.", no_args_is_help=True, rich_markup_mode=None
)
for each in (export, install):
    options.command(kibana, each)
