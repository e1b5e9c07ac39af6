"""``imgsearch kibana``: a dashboard for an index, as a file or in a running Kibana."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.cli.output import IndexOption, JsonOption, print_json, print_table, say
from imgsearch_es.pictures.files import replacing

if TYPE_CHECKING:
    from imgsearch_es.interfaces.kibana import SavedObject

PageOption = Annotated[
    str | None,
    typer.Option(
        "--page",
        metavar="URL",
        show_default=False,
        help="The URL of `imgsearch serve`, for links to the pictures.",
    ),
]
app = typer.Typer(
    help="Show an index of Elasticsearch in Kibana.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("export")
def export(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The file to write, such as pets.ndjson."),
    ],
    index: IndexOption = None,
    page: PageOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Write the dashboard, its panels and data views into a file.

    Import it in Kibana 8.15 or newer: Stack Management, Saved Objects, Import.
    No server is asked.
    """
    from imgsearch_es.interfaces.kibana import to_ndjson

    name, objects = _objects(index, page)
    if file.exists() and not force:
        raise ConfigurationError(f"{file} exists; --force overwrites it")
    try:
        with replacing(file) as draft:
            draft.write_text(to_ndjson(objects), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from error
    if json:
        print_json({"file": str(file), "index": name, "objects": _listed(objects)})
        return
    _print(objects)
    say(f"{file}: {len(objects)} saved objects of the index {name}")


@app.command("install")
def install(
    kibana: Annotated[
        str,
        typer.Option(
            "--kibana",
            metavar="URL",
            envvar="IMGSEARCH_KIBANA",
            help="The URL of Kibana, such as http://localhost:5601.",
        ),
    ],
    index: IndexOption = None,
    page: PageOption = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", show_default=False, help="A space of Kibana other than the default."
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait while Kibana starts.")
    ] = 60.0,
    json: JsonOption = False,
) -> None:
    """Put the dashboard, its panels and data views into a running Kibana.

    It replaces what was installed before for the same index. Credentials and
    certificates are those of Elasticsearch: IMGSEARCH_ES_API_KEY, or
    IMGSEARCH_ES_USERNAME and IMGSEARCH_ES_PASSWORD; IMGSEARCH_ES_CA_CERTS.
    """
    from imgsearch_es.interfaces.kibana import dashboard_id
    from imgsearch_es.interfaces.kibana.install import Kibana

    target = Kibana.at(kibana, space)
    name, objects = _objects(index, page)
    count = target.install(objects, seconds=wait)
    url = target.dashboard_url(dashboard_id(name))
    if json:
        print_json({"dashboard": url, "index": name, "objects": _listed(objects)})
        return
    say(f"{count} saved objects of the index {name} are in {target.root}")
    say(url)


def _objects(index: str | None, page: str | None) -> tuple[str, list[SavedObject]]:
    """The name of the index, and its saved objects."""
    from imgsearch_es.interfaces.kibana import index_name, saved_objects

    name = index_name(index)
    return name, saved_objects(name, page)


def _listed(objects: list[SavedObject]) -> list[dict[str, str]]:
    return [{"type": item.type, "id": item.id, "title": _title(item)} for item in objects]


def _print(objects: list[SavedObject]) -> None:
    print_table(("type", "title"), [(item.type, _title(item)) for item in objects])


def _title(item: SavedObject) -> str:
    return str(item.attributes.get("name") or item.attributes["title"])
