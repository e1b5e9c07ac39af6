"""Gives Kibana and imgsearch_es their users on a new Elasticsearch; may run at every start.

    make_users.py FOLDER    (what make_secrets.sh has made)

The server is that of IMGSEARCH_ES_SERVER, "https://elasticsearch:9200" by default. Kibana's
``kibana_system`` gets the password of kibana/kibana.yml. The user ``imgsearch`` may do everything
with indices of people, and edit in Kibana, and nothing else. Passwords are printed nowhere.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from elasticsearch import ApiError, Elasticsearch, TransportError

SERVER = "https://elasticsearch:9200"
USER = "imgsearch"
ROLE = {
    "cluster": ["monitor", "read_ilm"],
    "indices": [
        {"names": ["*"], "privileges": ["all"], "allow_restricted_indices": False},
    ],
}
KIBANA_ROLE = "editor"
"""Elasticsearch's own: all of Kibana's features, without its administration."""


def make_users(client: Elasticsearch, kibana_password: str, password: str) -> None:
    """Set the password of Kibana's user; make ours and its role, or bring them up to date."""
    client.security.change_password(username="kibana_system", password=kibana_password)
    client.security.put_role(name=USER, **ROLE)
    client.security.put_user(username=USER, password=password, roles=[USER, KIBANA_ROLE])


def kibana_password(folder: Path) -> str:
    """The password in Kibana's configuration."""
    text = (folder / "kibana" / "kibana.yml").read_text(encoding="utf-8")
    found = re.search(r'^elasticsearch\.password: "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("make_users: kibana.yml has no password; remove it and run setup again")
    return found[1]


def main() -> None:
    """Connect as the superuser ``elastic`` and make the users."""
    folder = Path(sys.argv[1])
    server = os.environ.get("IMGSEARCH_ES_SERVER", SERVER)
    superuser = os.environ.get("IMGSEARCH_ES_SUPERUSER", "elastic")
    first = (folder / "elasticsearch" / "elastic.password").read_text(encoding="ascii").strip()
    own = (folder / "imgsearch" / "imgsearch.password").read_text(encoding="ascii").strip()
    ca_certs = str(folder / "ca" / "ca.crt")
    client = Elasticsearch(
        server, basic_auth=(superuser, first), ca_certs=ca_certs, retry_on_timeout=True
    )
    try:
        make_users(client, kibana_password(folder), own)
    except (ApiError, TransportError) as error:
        raise SystemExit(f"make_users: {server}: {error}") from error
    print("the users kibana_system and imgsearch are ready")


if __name__ == "__main__":
    main()
