# SPDX-License-Identifier: Apache-2.0
"""Takes the libraries of a directory that is older than the image's cache from that cache.

A look at a name in the root of a container is slow, because an overlay looks for the name in each
layer. In a directory that did not change since ldconfig ran, its result is known without it.

The time of a directory is no proof by itself: `cp -a`, `tar` and COPY of a Dockerfile set it to
that of their source after they have added files. So the directory is listed, and a name that the
cache does not explain is read: neither it, nor a name that it continues or begins, is in the cache.
Mounts on files do not change the time either, nor does their end: an image that was committed from
a container has empty files in place of the driver's. So names of drivers and of mounts are checked.
"""

from __future__ import annotations

from cdi_hook.ldso import cache_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from cdi_hook.ldso.library_directory import Folder

MAX_PARTS = 6
"""Parts of a version after `.so`; a name with more is looked at."""

_DRIVER = ("libcuda.", "libcudadebugger.", "libnv", "libGLX_indirect.")
_VENDOR = "nvidia"
"""Names of the driver's libraries, of whatever version, begin so or have this in them."""


def unexplained(
    folder: Folder, cached: Collection[str], doubtful: Collection[str]
) -> list[str] | None:
    """Return the names of libraries that the cache does not explain.

    Args:
        folder: the directory, listed.
        cached: the names that the cache has for it.
        doubtful: names that may have another content than when the cache was made.

    Returns:
        None if the cache does not describe the directory: a name is missing, or leads to no
        content; or if the order of the names in the directory matters for the cache.
    """
    names = folder.names
    known = set(cached)
    if not known <= names.keys() or cache_file.has_equal_names(cached):
        return None
    continued: set[str] = set()
    rest: list[str] = []
    begun = {other for name in known for other in _beginnings(name) if other in names}
    for name in names.keys() - known:
        is_explained = name in begun and not name.endswith(".so")
        for beginning in _beginnings(name):
            if beginning in known:
                continued.add(beginning)
                # A library of any version continues libx.so, which is for the linker.
                is_explained = is_explained or not beginning.endswith(".so")
        if name in doubtful or not is_explained:
            rest.append(name)
    continued |= begun
    suspects = {name for name in known if _VENDOR in name or name.startswith(_DRIVER)}
    # A link without a file that continues its name may lead to another directory.
    suspects.update(name for name in known - continued if names[name])
    suspects.update(known.intersection(doubtful))
    if not all(map(folder.leads_to_content, suspects)):
        return None
    targets = {folder.leads_to(name) for name in suspects if names[name]}
    return [
        name
        for name in rest
        if name in doubtful
        or not (name in targets or (names[name] and _is_explained(folder, name, known, targets)))
    ]


def _is_explained(
    folder: Folder, link: str, known: Collection[str], targets: Collection[str | None]
) -> bool:
    """Whether a link leads to a file of a library in the cache, and is no entry of its own.

    A link for the linker is one, `libx.so` to a file with the SONAME `libx.so.1`.
    """
    file = folder.leads_to(link)
    if file is None:
        return False
    sonames = {name for name in (file, *_beginnings(file)) if name in known}
    if link.endswith(".so") and any(soname.startswith(link) for soname in sonames):
        return False
    return bool(sonames) or file in targets


def _beginnings(name: str) -> list[str]:
    """Return `libx.so.1` and `libx.so` for `libx.so.1.2`."""
    beginnings: list[str] = []
    while name and not name.endswith(".so") and len(beginnings) < MAX_PARTS:
        name = name.rpartition(".")[0]
        beginnings.append(name)
    return beginnings
