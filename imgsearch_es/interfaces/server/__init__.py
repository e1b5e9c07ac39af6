"""The page and the API that ``imgsearch serve`` gives.

A request goes this way:

    connections -> guard -> routes (api, page) -> services -> ImageIndex
                                                           -> pictures, uploads

``guard.py`` refuses what must not get in. ``services.py`` turns a request into what ``ImageIndex``
takes, in a thread, or in a process that searches as well (``batching.py``). Analysis is done by one
thread that owns the model, for all queries that wait at that moment together. ``view.py`` is what
the page shows, as it stands in its URL, ``readiness.py`` what it says of its index. ``app.py`` puts
it together.
"""

from __future__ import annotations

from importlib.util import find_spec

from imgsearch_es.errors import MissingDependencyError, pip_install

_PACKAGES = ("fastapi", "prometheus_client", "python_multipart", "uvicorn")


def check_installed() -> None:
    """Raise MissingDependencyError where a package of the extra ``server`` is not installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"the server needs {', '.join(missing)}, not installed here. "
            f"Install with: {pip_install('server')}"
        )
