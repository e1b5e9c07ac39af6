"""What this system's package manager calls the things that tests need, and how it installs them.

The commands that are printed are those that are run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

WORDS = {
    "browser": "Chromium with its libraries",
    "java": "a complete JDK of 21 or newer",
    "libatomic": "libatomic",
    "libraries": "the libraries of Chromium",
    "maven": "Maven",
    "python": "Python",
    "venv": "Python's venv",
}
APT = "apt-get install -y --no-install-recommends"
DEBIAN = {
    "venv": "python3-venv",
    "java": "openjdk-21-jdk-headless",
    "maven": "maven",
    "libatomic": "libatomic1",
}
# The packages by the ID of os-release, for its releases that have a Python we know; by ID and
# VERSION_CODENAME where a release differs. What has a space is a command of its own.
SYSTEMS = {
    "debian": (APT, DEBIAN | {"browser": "chromium"}),
    "debian bookworm": (
        APT,
        DEBIAN | {"browser": "chromium", "java": "bash tools/install_jdk.sh"},
    ),
    # Its chromium is a snap, which sees no temporary files and is not to be had in containers. The
    # libraries are not called the same from release to release, and Playwright knows them.
    "ubuntu": (
        APT,
        DEBIAN | {"libraries": "make venv && .venv/bin/python -m playwright install-deps chromium"},
    ),
    "fedora": (
        "dnf install -y",
        {
            "python": "python3.13",
            "java": "java-latest-openjdk-devel",
            "maven": "maven",
            "libatomic": "libatomic",
            "browser": "chromium",
        },
    ),
    "arch": (
        "pacman -S --needed --noconfirm",
        {"java": "jdk21-openjdk", "maven": "maven", "browser": "chromium"},
    ),
    "darwin": (
        "brew install",
        {
            "python": "python@3.13",
            "java": "openjdk@21",
            "maven": "maven",
            "browser": "brew install --cask google-chrome",
        },
    ),
}


def this_system(path: Path = Path("/etc/os-release")) -> str:
    """The key of the list above; one that is not there where the system is none of them."""
    if sys.platform == "darwin" or not path.is_file():
        return sys.platform
    pairs = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines())
    values = {name: value.strip("\"'") for name, _, value in pairs}
    if "ubuntu" in values.get("ID_LIKE", "").split():  # they take its packages
        return "ubuntu"
    release = f"{values.get('ID')} {values.get('VERSION_CODENAME')}"
    return release if release in SYSTEMS else release.partition(" ")[0]


def commands(things: Iterable[str]) -> list[str]:
    """What brings ``things``, to be run in this order by root; nothing where a thing is unknown."""
    install, names = SYSTEMS.get(this_system(), ("", {}))
    found = [names.get(thing, "") for thing in things]
    if not all(found):
        return []
    others = [name for name in found if " " in name]
    if packages := [name for name in found if " " not in name]:
        update = ["apt-get update"] if install == APT else []
        return [*update, f"{install} {' '.join(packages)}", *others]
    return others


def words(things: Iterable[str]) -> str:
    """Things as a person calls them."""
    return " and ".join(WORDS[thing] for thing in things)


def how(things: Iterable[str]) -> str:
    """``commands`` as one line to be typed, or what to do where none is known."""
    found = commands(things)
    if not found:
        return "install it by hand"
    is_ours = sys.platform == "darwin" or os.getuid() == 0
    sudo = "sudo " if not is_ours and shutil.which("sudo") else ""
    # Playwright asks for root's rights itself, and .venv is the user's.
    line = " && ".join(("" if name.startswith("make ") else sudo) + name for name in found)
    return f"`{line}`" if is_ours or sudo else f"as root `{line}`"


def root() -> list[str] | None:
    """What stands before a command that root shall run: nothing, sudo, or None if we may not."""
    if sys.platform == "darwin":  # Homebrew is for a user to run
        return None
    if os.getuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    asked = subprocess.run([sudo, "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True)
    return None if asked.returncode else [sudo, "-n"]
