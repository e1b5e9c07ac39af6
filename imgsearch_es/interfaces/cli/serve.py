"""``imgsearch serve``: a page and an API for an index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

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
        str, typer.Option(help="The address to listen on; any but loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes any that is free.")] = 8000,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Serve and add only pictures in this folder. May be repeated.",
        ),
    ] = None,
    uploads: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default=False, help="Where pictures added by upload are kept."
        ),
    ] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="A name under which the server is reached. May be repeated.",
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            show_default=False,
            help="A proxy, or a network of them, that tells for whom it asks (X-Forwarded-For); "
            "needs a token. May be repeated.",
        ),
    ] = None,
    allow_urls: Annotated[
        bool,
        typer.Option(
            "--allow-urls", help="Fetch query pictures from public web servers for people."
        ),
    ] = False,
    max_upload: Annotated[int, typer.Option(min=1, help="Megabytes of an uploaded picture.")] = 20,
    max_megapixels: Annotated[int, typer.Option(min=1, help="Its millions of pixels.")] = 50,
    timeout: Annotated[float, typer.Option(help="Seconds that an answer may take.")] = 30.0,
    rate: Annotated[
        float, typer.Option(help="Requests a second of one client; 0 for any number.")
    ] = 20.0,
    cache: Annotated[
        int, typer.Option(min=1, help="Megabytes of thumbnails that are kept on disk.")
    ] = 2048,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="IMGSEARCH_LOG",
            show_default=False,
            help="Keep what is shown and clicked in this file, for `imgsearch clicks`.",
        ),
    ] = None,
    warm_up: Annotated[
        bool,
        typer.Option(
            "--warm-up/--no-warm-up", help="Load the model at the start, or when first needed."
        ),
    ] = True,
    model: ModelOption = None,
    weights: WeightsOption = None,
    analyzer: AnalyzerOption = None,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> None:
    """Serve a page and an API for an index.

    For this machine only, unless --host or --proxy says otherwise; then the environment
    variable IMGSEARCH_TOKEN must hold a token, which every request must
    carry. With a token pictures can be added and removed. Ctrl-C ends it.
    """
    # In blocks of this size the C library gives a large picture's memory back; of smaller ones each
    # thread keeps some. To be set before Pillow is loaded.
    os.environ.setdefault("PILLOW_BLOCK_SIZE", "64m")
    from imgsearch_es.interfaces.server import check_installed

    check_installed()
    from imgsearch_es.interfaces.server.batching import ServedIndex
    from imgsearch_es.interfaces.server.running import run_server
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
