# SPDX-License-Identifier: Apache-2.0
"""Writes an image of the OCI image format 1.1, as an archive of its layout."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tools.tree import compress

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Layer(NamedTuple):
    """A layer of an image."""

    made_by: str
    """What the history of the image says of it."""
    content: bytes
    """An archive in the format of tar."""


class Image(NamedTuple):
    """What an image consists of."""

    architecture: str
    """OCI's name: ``amd64`` or ``arm64``."""
    created: str
    """A time of RFC 3339."""
    config: dict[str, object]
    """How containers are started."""
    labels: Mapping[str, str]
    layers: Sequence[Layer]


def digest(content: bytes) -> str:
    """Return the digest of a blob."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def archive(image: Image, name: str) -> tuple[bytes, str]:
    """Return the archive of an image, and the digest of its manifest.

    Args:
        image: the image.
        name: the reference that programs give the image when they load the archive.
    """
    layers = [(compress(layer.content), layer) for layer in image.layers]
    config = _json(
        {
            "architecture": image.architecture,
            "os": "linux",
            "created": image.created,
            "config": image.config | {"Labels": dict(image.labels)},
            "rootfs": {
                "type": "layers",
                "diff_ids": [digest(layer.content) for _, layer in layers],
            },
            "history": [
                {"created": image.created, "created_by": layer.made_by} for _, layer in layers
            ],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, content) for content, _ in layers],
            "annotations": dict(image.labels),
        }
    )
    entry = _descriptor(_MANIFEST, manifest) | {
        "platform": {"architecture": image.architecture, "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": name},
    }
    index = _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]})
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index}
    for blob in (config, manifest, *(content for content, _ in layers)):
        files[f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"] = blob
    return _archive(files), digest(manifest)


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _archive(files: Mapping[str, bytes]) -> bytes:
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(files[name]), 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    return result.getvalue()
