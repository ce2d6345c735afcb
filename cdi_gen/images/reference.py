# SPDX-License-Identifier: Apache-2.0
"""Names of images: completes them as engines do, and compares them.

``ubuntu`` is ``docker.io/library/ubuntu:latest`` for Docker and nerdctl; Podman also takes an image
of any registry whose name ends so. A name of 6 or more hexadecimal digits may be an image's id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdi_gen.images.model import Record

DOCKER_HUB = "docker.io"
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HEX = frozenset("0123456789abcdef")
MIN_ID = 6


def complete(name: str) -> str:
    """Return a name with registry and tag: ``docker.io/library/ubuntu:latest``."""
    repository, tag, digest = split(name)
    domain, slash, path = repository.partition("/")
    if not slash or not ("." in domain or ":" in domain or domain == "localhost"):
        domain, path = DOCKER_HUB, repository
    if domain in _HUB_NAMES:
        domain = DOCKER_HUB
        path = path if "/" in path else f"library/{path}"
    if digest:
        return f"{domain}/{path}@{digest}"
    return f"{domain}/{path}:{tag or 'latest'}"


def split(name: str) -> tuple[str, str, str]:
    """Return the repository, the tag and the digest; empty where the name has none."""
    rest, _, digest = name.partition("@")
    repository, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, "", digest
    return repository, tag, digest


def has_registry(name: str) -> bool:
    """Whether a name begins with a registry."""
    domain, slash, _ = split(name)[0].partition("/")
    return bool(slash) and ("." in domain or ":" in domain or domain == "localhost")


def matching(wanted: str, names: Iterable[str]) -> list[str]:
    """Return the names that mean the wanted image, the best alone if one is exact.

    Args:
        wanted: as the user typed it.
        names: as a store has them.
    """
    name_of = {complete(name): name for name in names}
    exact = complete(wanted)
    if exact in name_of:
        return [name_of[exact]]
    if has_registry(wanted):
        return []
    ending = f"/{exact.removeprefix(f'{DOCKER_HUB}/').removeprefix('library/')}"
    local = f"localhost{ending}"
    if local in name_of:
        return [name_of[local]]
    return [name for full, name in name_of.items() if full.endswith(ending)]


def find(wanted: str, records: Sequence[Record]) -> list[Record]:
    """Return the images of a store that a name or an id means."""
    names = set(matching(wanted, [name for record in records for name in record.names]))
    by_name = [record for record in records if names.intersection(record.names)]
    return by_name or [record for record in records if is_id(wanted, record.image_id)]


def is_id(text: str, image_id: str) -> bool:
    """Whether a text is an image's id, or the beginning of it."""
    wanted = text.removeprefix("sha256:")
    return len(wanted) >= MIN_ID and _HEX.issuperset(wanted) and image_id.startswith(wanted)
