"""``imgsearch kibana``: a dashboard for an index, as a file or in a running Kibana."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.cli.declaring import command
from imgsearch_es.interfaces.cli.options import Index
from imgsearch_es.interfaces.cli.output import answer, print_table, say
from imgsearch_es.pictures.files import replacing

if TYPE_CHECKING:
    from imgsearch_es.interfaces.kibana import SavedObject


def export(
    *, file: Path, index: Index = None, page: str | None = None, force: bool = False
) -> None:
    """Write the dashboard, its panels and data views into a file.

    Import it in Kibana 8.15 or newer: Stack Management, Saved Objects, Import.
    No server is asked.

    Options:
        file FILE: The file to write, such as pets.ndjson.
        --page URL: The URL of `imgsearch serve`, for links to the pictures.
        --force: Overwrite the file.
    """
    from imgsearch_es.interfaces.kibana import to_ndjson

    name, objects, listed = _objects(index, page)
    if file.exists() and not force:
        raise ConfigurationError(f"{file} exists; --force overwrites it")
    try:
        with replacing(file) as draft:
            draft.write_text(to_ndjson(objects), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from error
    answer({"file": str(file), "index": name, "objects": listed})
    print_table(("type", "title"), [(each["type"], each["title"]) for each in listed])
    say(f"{file}: {len(objects)} saved objects of the index {name}")


def install(
    *,
    kibana: Annotated[str, typer.Option(envvar="IMGSEARCH_KIBANA")],
    index: Index = None,
    page: str | None = None,
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
        --space NAME: A space of Kibana other than the default.
        --wait SECONDS: How long to wait while Kibana starts.
    """
    from imgsearch_es.interfaces.kibana import dashboard_id
    from imgsearch_es.interfaces.kibana.install import Kibana

    target = Kibana.at(kibana, space)
    name, objects, listed = _objects(index, page)
    count = target.install(objects, seconds=wait)
    url = target.dashboard_url(dashboard_id(name))
    answer({"dashboard": url, "index": name, "objects": listed})
    say(f"{count} saved objects of the index {name} are in {target.root}", url)


def _objects(
    index: str | None, page: str | None
) -> tuple[str, list[SavedObject], list[dict[str, str]]]:
    """The name of the index, its saved objects, and how these are listed."""
    from imgsearch_es.interfaces.kibana import index_name, saved_objects

    name = index_name(index)
    objects = saved_objects(name, page)
    titles = [str(item.attributes.get("name") or item.attributes["title"]) for item in objects]
    listed = [
        {"type": item.type, "id": item.id, "title": title}
        for item, title in zip(objects, titles, strict=True)
    ]
    return name, objects, listed


app = typer.Typer(
    help="Show an index of Elasticsearch in Kibana.", no_args_is_help=True, rich_markup_mode=None
)
for each in (export, install):
    command(app, each)
