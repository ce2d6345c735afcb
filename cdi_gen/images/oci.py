# SPDX-License-Identifier: Apache-2.0
"""Parses the JSON documents of images: index, manifest, configuration (OCI and Docker)."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeGuard

from cdi_base.errors import HookError, shown
from cdi_base.strict_json import JSONError, parse
from cdi_gen.images.errors import MAX_JSON, DamagedImageError, ImageError

Blob = Callable[[str, int], "bytes | None"]
"""Returns the content of a blob by its digest and a limit; None if it is missing."""

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le"}
"""OCI's words for what ``uname -m`` prints."""

MAX_NESTING = 4
"""The largest number of indexes in one another."""
MAX_LAYERS = 512

_HEX = frozenset("0123456789abcdef")


class Descriptor(NamedTuple):
    """A reference to a blob."""

    digest: str
    media_type: str = ""
    size: int = 0


class Configuration(NamedTuple):
    """The configuration of an image."""

    environment: dict[str, str]
    labels: dict[str, str]
    architecture: str | None
    diff_ids: tuple[str, ...]
    """Digests of the layers without compression, the lowest first."""


class Manifest(NamedTuple):
    """The manifest of an image for one platform."""

    digest: str
    configuration: Configuration
    layers: tuple[Descriptor, ...]


def document(content: bytes | None, name: str) -> dict[str, Any]:
    """Return a JSON object.

    Args:
        content: the text; None if the file is missing.
        name: of the file, for messages.

    Raises:
        DamagedImageError: the file is missing or not a JSON object.
    """
    if content is None:
        raise DamagedImageError(f"{name} is missing", subject=name)
    try:
        value = parse(content)
    except (JSONError, HookError, RecursionError) as error:
        raise DamagedImageError(f"{name}: {error}", subject=name) from None
    if not isinstance(value, dict):
        raise DamagedImageError(f"{name}: not a JSON object", subject=name)
    return value


def is_digest(text: object) -> TypeGuard[str]:
    """Whether a value is a digest that may be part of a path."""
    if not isinstance(text, str):
        return False
    algorithm, _, number = text.partition(":")
    return (
        algorithm in {"sha256", "sha512"} and len(number) in {64, 128} and _HEX.issuperset(number)
    )


def descriptor(value: object) -> Descriptor:
    """Return a descriptor.

    Raises:
        DamagedImageError: the value is none.
    """
    fields = value if isinstance(value, dict) else {}
    digest, media_type, size = fields.get("digest"), fields.get("mediaType"), fields.get("size")
    if not isinstance(digest, str) or not is_digest(digest):
        raise DamagedImageError(f"a manifest names an invalid digest: {shown(str(digest))}")
    return Descriptor(
        digest,
        media_type if isinstance(media_type, str) else "",
        size if isinstance(size, int) else 0,
    )


def manifest(blob: Blob, top: Descriptor, architecture: str | None = None) -> Manifest:
    """Return the manifest that a descriptor leads to, for one platform.

    Args:
        blob: returns blobs.
        top: of a manifest or an index.
        architecture: in OCI's words; None: the machine's.

    Raises:
        ImageError: there is none for the platform.
        DamagedImageError: a document is missing or damaged.
    """
    wanted = architecture or ARCHITECTURES.get(platform.machine(), platform.machine())
    current = top
    for _ in range(MAX_NESTING):
        fields = document(blob(current.digest, MAX_JSON), current.digest)
        if "manifests" not in fields:
            return _manifest(blob, current.digest, fields)
        current = _of_platform(fields, wanted, blob)
    raise DamagedImageError(f"{top.digest}: indexes lead to indexes")


def _of_platform(index: dict[str, Any], wanted: str, blob: Blob) -> Descriptor:
    """Return the manifest of an index for a platform; or the only one that the store has."""
    others = []
    for item in _list(index.get("manifests")):
        fields = item if isinstance(item, dict) else {}
        system = fields.get("platform")
        system = system if isinstance(system, dict) else {}
        annotations = fields.get("annotations")
        if isinstance(annotations, dict) and "vnd.docker.reference.type" in annotations:
            continue  # an attestation of BuildKit
        if system.get("os", "linux") != "linux":
            continue
        if system.get("architecture", wanted) == wanted:
            return descriptor(item)
        others.append(item)
    available = [other for other in map(descriptor, others) if blob(other.digest, MAX_JSON)]
    if len(available) == 1:
        return available[0]
    names = sorted({str(other["platform"].get("architecture")) for other in others})
    raise ImageError(
        f"the image is not for linux/{wanted}, only for {', '.join(map(shown, names)) or 'none'}",
        hint="pull the image for the host's platform",
        code="CDG-M015",
    )


def _manifest(blob: Blob, digest: str, fields: dict[str, Any]) -> Manifest:
    config = fields.get("config")
    if config is None:
        raise DamagedImageError(f"{digest}: a manifest of version 1, which is no longer supported")
    config_descriptor = descriptor(config)
    content = blob(config_descriptor.digest, MAX_JSON)
    return Manifest(
        digest,
        configuration(document(content, config_descriptor.digest)),
        tuple(map(descriptor, _list(fields.get("layers"))[:MAX_LAYERS])),
    )


def configuration(fields: Mapping[str, Any]) -> Configuration:
    """Return what the configuration of an image says; fields of another type count as missing."""
    config = fields.get("config")
    config = config if isinstance(config, dict) else {}
    rootfs = fields.get("rootfs")
    diff_ids = _list(rootfs.get("diff_ids")) if isinstance(rootfs, dict) else []
    architecture = fields.get("architecture")
    labels = config.get("Labels")
    return Configuration(
        environment=environment(config.get("Env")),
        labels={str(name): str(value) for name, value in (labels or {}).items()}
        if isinstance(labels, dict)
        else {},
        architecture=architecture if isinstance(architecture, str) and architecture else None,
        diff_ids=tuple(digest for digest in diff_ids[:MAX_LAYERS] if is_digest(digest)),
    )


def environment(entries: object) -> dict[str, str]:
    """Return the variables of `Env`; the first of several with one name counts, as in a libc."""
    variables: dict[str, str] = {}
    for entry in _list(entries):
        if isinstance(entry, str) and "=" in entry:
            name, _, value = entry.partition("=")
            variables.setdefault(name, value)
    return variables


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
