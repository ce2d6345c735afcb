# SPDX-License-Identifier: Apache-2.0
"""Packages of Debian, at the versions and with the hashes of requirements/debian.json.

``python -m tools.debian`` pins the newest versions of the same packages. The mirror is that of the
machine's own apt, or the one that CDI_GEN_LAB_MIRROR names. A mirror has only the newest version of
a package; downloaded files stay in the user's cache, and an archive of snapshots is a mirror too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tools.cache import home
from tools.steps import BuildError, run, say

LOCK = Path(__file__).resolve().parents[1] / "requirements" / "debian.json"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCES = "source"
"""The key of source packages, beside the architectures, in the lock file."""

_URI = re.compile(r"^'[^']+' (?P<name>\S+) \d+ SHA256:(?P<sha256>[0-9a-f]{64})$")


class Package(NamedTuple):
    """A package of Debian, as it is pinned."""

    name: str
    version: str
    files: dict[str, str]
    """The SHA-256 of each of its files: one .deb, or a .dsc and what it lists."""


def pinned(architecture: str) -> tuple[Package, ...]:
    """Return the pinned packages of ``source``, ``amd64`` or ``arm64``."""
    lock = json.loads(LOCK.read_text("utf-8"))
    return tuple(
        Package(name, package["version"], package["files"])
        for name, package in lock["packages"][architecture].items()
    )


def suite() -> str:
    """Return the code name of the pinned release."""
    return str(json.loads(LOCK.read_text("utf-8"))["suite"])


def fetch(architecture: str) -> dict[str, tuple[Path, ...]]:
    """Return the files of each pinned package of an architecture, from the cache or the mirror.

    Raises:
        BuildError: a file is not in the cache, and the mirror has another version or no answer.
    """
    directory = home() / "debian"
    directory.mkdir(parents=True, exist_ok=True)
    packages = pinned(architecture)
    missing = [
        p for p in packages if any(not _is_intact(directory / f, h) for f, h in p.files.items())
    ]
    if missing:
        say(f"downloading {len(missing)} packages of Debian ({architecture})")
        with _apt(suite(), architecture) as apt, tempfile.TemporaryDirectory(dir=directory) as work:
            names = [f"{package.name}={package.version}" for package in missing]
            try:
                run(*apt, *_download(architecture), *names, cwd=Path(work))
            except BuildError as error:
                raise BuildError(
                    f"{error}\n  hint: the mirror may have newer versions: pin these with "
                    "'make lock', or name a mirror with the pinned ones in CDI_GEN_LAB_MIRROR"
                ) from error
            for package in missing:
                for name, sha256 in package.files.items():
                    if not _is_intact(Path(work) / name, sha256):
                        raise BuildError(f"{name} is missing or not the pinned file: {LOCK}")
                    (Path(work) / name).replace(directory / name)
    return {package.name: tuple(directory / name for name in package.files) for package in packages}


def _is_intact(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except FileNotFoundError:
        return False


def _download(architecture: str) -> tuple[str, ...]:
    return ("source", "--download-only") if architecture == SOURCES else ("download",)


@contextmanager
def _apt(release: str, architecture: str) -> Iterator[tuple[str, ...]]:
    """Give apt-get with package lists of its own: the machine's are neither used nor changed."""
    kind = "deb-src" if architecture == SOURCES else "deb"
    options = f"[signed-by={KEYRING}]"
    main, security = _mirrors()
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        for name in ("lists/partial", "cache/archives/partial"):
            (state / name).mkdir(parents=True)
        (state / "sources.list").write_text(
            f"{kind} {options} {main} {release} main\n"
            f"{kind} {options} {security} {release}-security main\n",
            "utf-8",
        )
        settings = {
            "APT::Architecture": "amd64" if architecture == SOURCES else architecture,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Dir::Cache": str(state / "cache"),
            "Dir::Etc::sourcelist": str(state / "sources.list"),
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": str(state / "lists"),
            "Dir::State::status": "/dev/null",
        }
        apt = ("apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items()))
        run(*apt, "update")
        yield apt


def _mirrors() -> tuple[str, str]:
    """Return the mirror, and the one of the security updates beside it."""
    chosen = os.environ.get("CDI_GEN_LAB_MIRROR")
    if chosen is None:
        if shutil.which("apt-get") is None:
            raise BuildError(
                "the build takes packages from Debian, and this machine has no apt-get"
            )
        query = (
            "--format=$(REPO_URI)",
            "Component: main",
            "Created-By: Packages",
            "Origin: Debian",
        )
        addresses = run("apt-get", "indextargets", *query).split()
        if not addresses:
            run("apt-get", "-qq", "update")  # a machine without package lists
            addresses = run("apt-get", "indextargets", *query).split()
        plain = [address for address in addresses if "security" not in address]
        if not plain:
            raise BuildError(
                "the machine's apt has no mirror of Debian: name one in CDI_GEN_LAB_MIRROR"
            )
        chosen = plain[0]
    chosen = chosen.rstrip("/")
    return chosen, f"{chosen.removesuffix('/debian')}/debian-security"


def _newest(release: str, architecture: str, names: Iterable[str]) -> dict[str, object]:
    """Return the newest versions of packages and the hashes of their files, as in the lock file."""
    packages: dict[str, object] = {}
    with _apt(release, architecture) as apt:
        for name in names:
            files = {}
            for line in run(*apt, *_download(architecture), "--print-uris", name).splitlines():
                match = _URI.match(line)
                if match and not match["name"].endswith(".asc"):
                    files[match["name"]] = match["sha256"]
            first = min(files, key=lambda file: not file.endswith((".dsc", ".deb")))
            version = first.split("_")[1].removesuffix(".dsc").replace("%3a", ":")
            packages[name] = {"version": version, "files": files}
    return packages


def main() -> None:
    """Pin the newest versions of the packages of the lock file."""
    lock = json.loads(LOCK.read_text("utf-8"))
    for architecture, packages in lock["packages"].items():
        lock["packages"][architecture] = _newest(lock["suite"], architecture, packages)
    LOCK.write_text(json.dumps(lock, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
