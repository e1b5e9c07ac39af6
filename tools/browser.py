"""Finds a Chromium for tests and screenshots, or has Playwright fetch one.

    python tools/browser.py            # prints its path; exits with 1 when there is none
    python tools/browser.py install    # fetches one where there is none (about 150 MB, once)

Looked for in this order: IMGSEARCH_BROWSER, an installed Chromium or Chrome, Playwright's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
HELP = (
    "no Chromium was found and Playwright could not fetch one: install Chromium or Chrome (on "
    "Debian and Ubuntu `apt-get install chromium`), or name one by IMGSEARCH_BROWSER"
)


def find() -> str | None:
    """The path of a browser, or None."""
    if named := os.environ.get("IMGSEARCH_BROWSER"):
        return named
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    found = found or next((place for place in PLACES if Path(place).is_file()), None)
    return found or _of_playwright()


def find_or_install() -> str:
    """The path of a browser, which Playwright fetches where there is none.

    Raises:
        RuntimeError: there is none and none can be had; says what to do.
    """
    found = find()
    if found is None:
        print("fetching a Chromium for Playwright ...", file=sys.stderr)
        command = [sys.executable, "-m", "playwright", "install", "chromium"]
        subprocess.run(command, check=False, stdout=sys.stderr)
        found = find()
    if found is None:
        raise RuntimeError(HELP)
    return found


def _of_playwright() -> str | None:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return None
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


def main() -> None:
    try:
        found = find_or_install() if "install" in sys.argv[1:] else find()
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    print(found or HELP)
    sys.exit(0 if found else 1)


if __name__ == "__main__":
    main()
