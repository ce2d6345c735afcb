# SPDX-License-Identifier: Apache-2.0
"""An image of two layers, with everything that a layer can say about the one below."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cdi_gen.images.files import Files
from cdi_gen.images.model import Image

Member = tuple[str, bytes | str | None, bytes]
"""Name, then content, target of a link or None, then the type in tar."""

NAME = "localhost/layered:latest"
ENVIRONMENT = {"PATH": "/usr/bin", "CUDA_VERSION": "12.4.1", "NVIDIA_REQUIRE_CUDA": "cuda>=12.4"}

LOWER: list[Member] = [
    ("etc", None, tarfile.DIRTYPE),
    ("etc/removed", b"removed\n", tarfile.REGTYPE),
    ("etc/replaced", b"old\n", tarfile.REGTYPE),
    ("etc/kept", b"kept\n", tarfile.REGTYPE),
    ("etc/hidden.d", None, tarfile.DIRTYPE),
    ("etc/hidden.d/old", b"old\n", tarfile.REGTYPE),
    ("etc/gone.d", None, tarfile.DIRTYPE),
    ("etc/gone.d/old", b"old\n", tarfile.REGTYPE),
    ("usr", None, tarfile.DIRTYPE),
    ("usr/lib", None, tarfile.DIRTYPE),
    ("usr/lib/real", b"real\n", tarfile.REGTYPE),
    ("usr/lib/hard", "usr/lib/real", tarfile.LNKTYPE),
    ("usr/lib/becomes-file", None, tarfile.DIRTYPE),
    ("usr/lib/becomes-file/inner", b"inner\n", tarfile.REGTYPE),
    ("lib", "usr/lib", tarfile.SYMTYPE),
    ("opt", None, tarfile.DIRTYPE),
    ("opt/absolute", "/lib/real", tarfile.SYMTYPE),
    ("opt/out", "../../../../../../etc/kept", tarfile.SYMTYPE),
    ("opt/loop", "loop", tarfile.SYMTYPE),
]
UPPER: list[Member] = [
    ("etc", None, tarfile.DIRTYPE),
    ("etc/.wh.removed", b"", tarfile.REGTYPE),
    ("etc/.wh.gone.d", b"", tarfile.REGTYPE),
    ("etc/replaced", b"new\n", tarfile.REGTYPE),
    ("etc/hidden.d", None, tarfile.DIRTYPE),
    ("etc/hidden.d/.wh..wh..opq", b"", tarfile.REGTYPE),
    ("etc/hidden.d/new", b"new\n", tarfile.REGTYPE),
    ("usr", None, tarfile.DIRTYPE),
    ("usr/lib", None, tarfile.DIRTYPE),
    ("usr/lib/becomes-file", b"file\n", tarfile.REGTYPE),
    ("usr/lib/added", b"added\n", tarfile.REGTYPE),
]

CONTENT = {
    "/etc/removed": None,
    "/etc/gone.d/old": None,
    "/etc/hidden.d/old": None,
    "/etc/hidden.d/new": b"new\n",
    "/etc/replaced": b"new\n",
    "/etc/kept": b"kept\n",
    "/lib/real": b"real\n",
    "/lib/hard": b"real\n",
    "/usr/lib/hard": b"real\n",
    "/opt/absolute": b"real\n",
    "/opt/out": b"kept\n",
    "/opt/loop": None,
    "/lib/becomes-file": b"file\n",
    "/lib/becomes-file/inner": None,
    "/opt/absolute/..": None,
    "/lib/../lib/added": b"added\n",
}
NAMES = {
    "/etc": ["hidden.d", "kept", "replaced"],
    "/etc/hidden.d": ["new"],
    "/etc/gone.d": [],
    "/lib": ["added", "becomes-file", "hard", "real"],
}


def check_files(files: Files | None) -> None:
    """The files are those that a container of the image would see."""
    assert files is not None
    assert {path: files.read(path, 100) for path in CONTENT} == CONTENT
    assert {path: files.names(path) for path in NAMES} == NAMES


def check(image: Image) -> None:
    """The image is the layered one, whichever store it is in."""
    with image:
        check_files(image.files)
        assert image.environment == ENVIRONMENT
        assert image.architecture == "amd64"
        assert (image.digest or "").startswith("sha256:")


def layer(members: Sequence[Member]) -> bytes:
    """A tar of members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, value, kind in members:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            if isinstance(value, str):
                entry.linkname = value
            content = value if isinstance(value, bytes) else b""
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def docker_archive(
    path: Path,
    layers: Sequence[bytes] | None = None,
    environment: Mapping[str, str] = ENVIRONMENT,
) -> Path:
    """Write what `docker save` wrote before Docker 25."""
    layers = layers if layers is not None else [layer(LOWER), layer(UPPER)]
    diff_ids = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in layers]
    config = configuration(diff_ids, environment)
    names = [f"{digest[7:]}.tar" for digest in diff_ids]
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [NAME], "Layers": names}]).encode()
    members = [*zip(names, layers, strict=True), (name, config), ("manifest.json", manifest)]
    path.write_bytes(layer([(title, content, tarfile.REGTYPE) for title, content in members]))
    return path


def configuration(diff_ids: Sequence[str], environment: Mapping[str, str] = ENVIRONMENT) -> bytes:
    """The image's configuration."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"{name}={value}" for name, value in environment.items()]},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [{"created_by": "layer"} for _ in diff_ids],
    }
    return json.dumps(document).encode()


def files_archive(
    path: Path, files: Mapping[str, str | bytes], environment: Mapping[str, str]
) -> Path:
    """Write an image of one layer: contents as bytes, targets of links as text."""
    members: list[Member] = [
        (name.lstrip("/"), value, tarfile.SYMTYPE if isinstance(value, str) else tarfile.REGTYPE)
        for name, value in files.items()
    ]
    return docker_archive(path, [layer(members)], environment)
