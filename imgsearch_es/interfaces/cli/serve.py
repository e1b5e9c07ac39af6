"""``imgsearch serve``: a page and an API for an index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from imgsearch_es.interfaces.cli.headings import under_access, under_analyzer, under_limits
from imgsearch_es.interfaces.cli.output import (
    AnalyzerOption,
    IndexOption,
    JsonOption,
    ModelOption,
    RuntimeOption,
    WeightsOption,
    print_json,
    say,
)


def serve(
    index: IndexOption = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on. Any address but loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8000,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Serve and add only pictures in this folder. Repeat it for more.",
        ),
    ] = None,
    uploads: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default=False, help="Where to keep pictures that people upload."
        ),
    ] = None,
    host_name: Annotated[
        list[str] | None,
        under_access(
            metavar="NAME",
            show_default=False,
            help="A name by which people reach the server. Repeat it for more.",
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        under_access(
            metavar="ADDRESS",
            show_default=False,
            help="A proxy, or a network of proxies, whose X-Forwarded-For to believe. Needs a "
            "token. Repeat it for more.",
        ),
    ] = None,
    allow_urls: Annotated[
        bool,
        under_access(
            "--allow-urls", help="Let people search with pictures from public web servers."
        ),
    ] = False,
    max_upload: Annotated[int, under_limits(min=1, help="The largest upload, in megabytes.")] = 20,
    max_megapixels: Annotated[
        int, under_limits(min=1, help="The largest picture, in megapixels.")
    ] = 50,
    timeout: Annotated[
        float, under_limits(help="Give up on an answer after this many seconds.")
    ] = 30.0,
    rate: Annotated[
        float, under_limits(help="Requests a second from one client; 0 sets no limit.")
    ] = 20.0,
    cache: Annotated[
        int, under_limits(min=1, help="Thumbnails to keep on disk, in megabytes.")
    ] = 2048,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="IMGSEARCH_LOG",
            show_default=False,
            help="Log what is shown and clicked to this file, for `imgsearch clicks`.",
        ),
    ] = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    analyzer: AnalyzerOption = None,
    runtime: RuntimeOption = None,
    warm_up: Annotated[
        bool,
        under_analyzer(
            "--warm-up/--no-warm-up",
            help="Load the model at the start, not at the first query by picture.",
        ),
    ] = True,
    json: JsonOption = False,
) -> None:
    """Serve a page and an API for an index.

    Only this machine can reach it, unless you give --host or --proxy. Then set the environment
    variable IMGSEARCH_TOKEN to a token, which every request must carry. With a token, people can
    also add and remove pictures. Ctrl-C stops the server.
    """
    # In blocks of this size the C library gives a large picture's memory back; of smaller ones each
    # thread keeps some. To be set before Pillow is loaded.
    os.environ.setdefault("PILLOW_BLOCK_SIZE", "64m")
    from imgsearch_es.interfaces.server import check_installed

    check_installed()
    from imgsearch_es.interfaces.server.app import run_server
    from imgsearch_es.interfaces.server.batching import ServedIndex
    from imgsearch_es.interfaces.server.settings import ServerSettings
    from imgsearch_es.pictures.files import Limits

    settings = ServerSettings(
        host=host,
        port=port,
        token=os.environ.get("IMGSEARCH_TOKEN") or None,
        host_names=tuple(host_name or ()),
        proxies=tuple(proxy or ()),
        roots=tuple(root or ()),
        upload_folder=uploads,
        allow_urls=allow_urls,
        upload_limits=Limits(max_megapixels * 1_000_000, max_upload * 1024**2, 10.0),
        request_seconds=timeout,
        rate=rate,
        cache_bytes=cache * 1024**2,
        log=log,
    )
    served = ServedIndex(index, model=model, weights=weights, analyzer=analyzer, runtime=runtime)

    def tell(url: str) -> None:
        if json:
            print_json({"url": url, "index": served.location}, indent=None)
        else:
            say(f"{served.location} at {url}  (Ctrl-C ends it)")
        _flush()

    run_server(served, settings, warm_up=warm_up, tell=tell)


def _flush() -> None:
    import sys

    sys.stdout.flush()
