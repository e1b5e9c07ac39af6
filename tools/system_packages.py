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
    "libraries": "the libraries of Chromium",
    "maven": "Maven",
    "python": "Python",
    "venv": "Python's venv",
}
APT = "apt-get install -y --no-install-recommends"
# By the ID of os-release, newest releases in mind; what a system does not have is not listed.
SYSTEMS = {
    "debian": (
        APT,
        {
            "venv": "python3-venv",
            "java": "openjdk-21-jdk-headless",
            "maven": "maven",
            "browser": "chromium libatomic1",
        },
    ),
    # Its chromium is a snap, which sees no temporary files and is not to be had in containers.
    "ubuntu": (APT, {"venv": "python3-venv", "java": "openjdk-21-jdk-headless", "maven": "maven"}),
    "fedora": (
        "dnf install -y",
        {
            "python": "python3.13",
            "java": "java-latest-openjdk-devel",
            "maven": "maven",
            "browser": "chromium libatomic",
        },
    ),
    "rhel": (
        "dnf install -y",
        {
            "python": "python3.12",
            "java": "java-21-openjdk-devel",
            "maven": "maven",
            "libraries": "nss atk at-spi2-atk mesa-libgbm alsa-lib libXcomposite libXdamage "
            "libatomic libXrandr libxkbcommon pango cups-libs",
        },
    ),
    "arch": (
        "pacman -S --needed --noconfirm",
        {"java": "jdk21-openjdk", "maven": "maven", "browser": "chromium"},
    ),
    "darwin": (
        "brew install",
        {"python": "python@3.13", "java": "openjdk@21", "maven": "maven"},
    ),
}
# What no package brings under the name that others have.
SPECIAL = {
    ("debian", "bookworm", "java"): "bash tools/install_jdk.sh",
    ("debian", "bullseye", "java"): "",
    # After `make venv`; the names of its packages are not the same from release to release.
    ("ubuntu", "", "libraries"): ".venv/bin/python -m playwright install-deps chromium",
    ("darwin", "", "browser"): "brew install --cask google-chrome",
}


def os_release(path: Path = Path("/etc/os-release")) -> tuple[str, str]:
    """ID (of the list above, by ID_LIKE where it is not there) and VERSION_CODENAME."""
    if sys.platform == "darwin":
        return "darwin", ""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return "", ""
    pairs = (line.partition("=") for line in text.splitlines())
    values = {name: value.strip("\"'") for name, _, value in pairs}
    names = [values.get("ID", ""), *values.get("ID_LIKE", "").split()]
    known = next((name for name in names if name in SYSTEMS), names[0])
    return known, values.get("VERSION_CODENAME", "")


def commands(things: Iterable[str], system: tuple[str, str] | None = None) -> list[str] | None:
    """What brings ``things``, to be run in this order by root; None where no command is known."""
    name, version = system or os_release()
    install, names = SYSTEMS.get(name, ("", {}))
    packages, others = [], []
    for thing in things:
        special = SPECIAL.get((name, version, thing), SPECIAL.get((name, "", thing)))
        if special:
            others.append(special)
        elif special is None and thing in names:
            packages.append(names[thing])
        else:
            return None
    if packages:
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
    line = " && ".join(sudo + command for command in found)
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
