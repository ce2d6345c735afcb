# SPDX-License-Identifier: Apache-2.0
"""Images of Docker with a storage driver of its own: overlay2 and vfs.

`image/DRIVER/repositories.json` has the names, `imagedb/content/sha256/ID` the configurations. A
layer is found by its chain id: the digest of the chain id of the layer below and its own digest.
Docker with containerd's image store (the default of Docker 29) is read as containerd.
"""

from __future__ import annotations

import hashlib

from cdi_gen.images import oci
from cdi_gen.images.containers_storage import open_below
from cdi_gen.images.errors import MAX_JSON, DamagedImageError, ImageError
from cdi_gen.images.files import Files
from cdi_gen.images.folder import Folder
from cdi_gen.images.layers import Layer, TreeLayer
from cdi_gen.images.model import Image, Record

NAME = "Docker"
DRIVERS = ("overlay2", "vfs")
OTHERS = ("fuse-overlayfs", "btrfs", "zfs", "overlay", "aufs", "devicemapper", "windowsfilter")
MAX_LIST = 64 << 20
_HEX = frozenset("0123456789abcdef")


class Store:
    """The data of a Docker daemon."""

    def __init__(self, path: str) -> None:
        """Open Docker's data root.

        Raises:
            OSError: it cannot be opened.
        """
        self.path = path
        self._folder = Folder(path)
        self.drivers = [
            name
            for name in (*DRIVERS, *OTHERS)
            if self._folder.exists(f"image/{name}/repositories.json")
        ]

    @property
    def title(self) -> str:
        """The store, for people."""
        return f"{NAME} ({self.path}, {', '.join(self.drivers)})"

    def close(self) -> None:
        """Close the directory."""
        self._folder.close()

    def records(self) -> list[Record]:
        """Return the images that have names, and those of the driver's list of configurations.

        Raises:
            ImageError: a list cannot be read.
        """
        records = []
        for driver in self.drivers:
            location = f"image/{driver}/repositories.json"
            content = self._folder.read(location, MAX_LIST)
            fields = oci.document(content, f"{self.path}/{location}")
            names: dict[str, list[str]] = {}
            repositories = fields.get("Repositories")
            for tags in (repositories if isinstance(repositories, dict) else {}).values():
                for name, digest in (tags if isinstance(tags, dict) else {}).items():
                    if oci.is_digest(digest):
                        names.setdefault(digest.partition(":")[2], []).append(str(name))
            contents = self._folder.names(f"image/{driver}/imagedb/content/sha256")
            ids = dict.fromkeys([*names, *sorted(entry.name for entry in contents)])
            records += [
                Record(image_id, _sorted(names.get(image_id, [])), driver) for image_id in ids
            ]
        return records

    def open(self, record: Record, architecture: str | None = None) -> Image:  # noqa: ARG002
        """Open an image.

        Raises:
            ImageError: it cannot be read.
        """
        if record.place not in DRIVERS:
            raise ImageError(
                f"{self.path}: images of Docker's storage driver {record.place} cannot be read",
                hint="save the image, and name the archive: docker save -o FILE, --archive FILE",
                code="CDG-M023",
            )
        location = f"image/{record.place}/imagedb/content/sha256/{record.image_id}"
        content = self._folder.read(location, MAX_JSON)
        configuration = oci.configuration(oci.document(content, f"{self.path}/{location}"))
        return Image(
            name=record.name,
            store=self.title,
            files=Files(self._layers(record.place, configuration.diff_ids)),
            digest=_repository_digest(record) or f"sha256:{record.image_id}",
            environment=configuration.environment,
            labels=configuration.labels,
            architecture=configuration.architecture,
        )

    def _layers(self, driver: str, diff_ids: tuple[str, ...]) -> list[Layer]:
        cache_ids = []
        for chain_id in chain_ids(diff_ids):
            location = f"image/{driver}/layerdb/sha256/{chain_id.partition(':')[2]}/cache-id"
            content = self._folder.read(location, 256)
            cache_id = (content or b"").decode("ascii", "replace").strip()
            if not cache_id or not _HEX.issuperset(cache_id):
                raise DamagedImageError(
                    f"{self.path}/{location} names no layer",
                    hint="pull the image again",
                    code="CDG-M026",
                )
            cache_ids.append(cache_id)
        if driver == "vfs":
            return [
                TreeLayer(open_below(self._folder, f"vfs/dir/{cache_id}"), has_marks=False)
                for cache_id in cache_ids[-1:]
            ]
        return [
            TreeLayer(open_below(self._folder, f"overlay2/{cache_id}/diff"), has_marks=True)
            for cache_id in cache_ids
        ]


def _sorted(names: list[str]) -> tuple[str, ...]:
    """Return names with tags before those with digests."""
    return tuple(sorted(names, key=lambda name: ("@" in name, name)))


def chain_ids(diff_ids: tuple[str, ...]) -> list[str]:
    """Return the chain ids of layers, the lowest first (OCI image specification, config.md)."""
    chain: list[str] = []
    for digest in diff_ids:
        if chain:
            text = f"{chain[-1]} {digest}"
            chain.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")
        else:
            chain.append(digest)
    return chain


def _repository_digest(record: Record) -> str | None:
    for name in record.names:
        digest = name.partition("@")[2]
        if oci.is_digest(digest):
            return digest
    return None
