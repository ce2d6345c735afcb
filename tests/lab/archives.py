# SPDX-License-Identifier: Apache-2.0
"""Container images as archives to load: a folder, and what a container of it is started with."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WITH_PATH = {"PATH": PATH}


class Configuration(NamedTuple):
    """What an image's container is started with."""

    environment: Mapping[str, str] = _WITH_PATH
    command: tuple[str, ...] = ("/probe",)
    entrypoint: tuple[str, ...] = ()
    user: str = ""


USUAL = Configuration()


def archive(images: Mapping[str, tuple[Path, Configuration]], to: Path) -> None:
    """Write folders as images ``localhost/NAME:latest`` into one docker-archive."""
    manifest = []
    with tarfile.open(to, "w") as out:
        for name, (tree, configuration) in images.items():
            layer = _layer(tree)
            digest = hashlib.sha256(layer).hexdigest()
            config = json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": _config(configuration),
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
                    "history": [{"created_by": f"tests/lab/archives.py {name}"}],
                }
            ).encode()
            config_name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(out, config_name, config)
            _add(out, f"{digest}.tar", layer)
            manifest.append(
                {
                    "Config": config_name,
                    "RepoTags": [f"localhost/{name}:latest"],
                    "Layers": [f"{digest}.tar"],
                }
            )
        _add(out, "manifest.json", json.dumps(manifest).encode())


def layer_of(path: Path) -> bytes:
    """The one layer, a tar, of an archive of one image."""
    with tarfile.open(path) as archive_:
        (name,) = (each for each in archive_.getnames() if each.endswith(".tar"))
        found = archive_.extractfile(name)
        assert found is not None
        return found.read()


def _config(configuration: Configuration) -> dict[str, object]:
    config: dict[str, object] = {
        "Env": [f"{name}={value}" for name, value in configuration.environment.items()],
        "Cmd": list(configuration.command),
    }
    if configuration.entrypoint:
        config["Entrypoint"] = list(configuration.entrypoint)
    if configuration.user:
        config["User"] = configuration.user
    return config


def _layer(tree: Path) -> bytes:
    """A tar of a folder, root's and of no time, so that the same image has the same digest."""

    def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as layer:
        for path in sorted(tree.iterdir()):
            layer.add(path, path.name, filter=anonymous)
    return out.getvalue()


def _add(out: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    out.addfile(entry, io.BytesIO(content))
