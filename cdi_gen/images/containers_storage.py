# SPDX-License-Identifier: Apache-2.0
"""Images of Podman, Buildah and CRI-O: the library containers-storage.

A store has `DRIVER-images/images.json` with names and the top layer of each image,
`DRIVER-layers/layers.json` with the parent of each layer, and the files of a layer in
`overlay/ID/diff` (the changes) or `vfs/dir/ID` (all files).
"""

from __future__ import annotations

import base64

from cdi_base.errors import HookError
from cdi_base.strict_json import JSONError, parse
from cdi_gen.images import oci
from cdi_gen.images.errors import MAX_JSON, DamagedImageError, ImageError
from cdi_gen.images.files import Files
from cdi_gen.images.folder import Folder
from cdi_gen.images.layers import Layer, TreeLayer
from cdi_gen.images.model import Image, Record

NAME = "containers-storage"
DRIVERS = ("overlay", "vfs")
OTHERS = ("btrfs", "zfs", "aufs", "devicemapper")
MAX_LIST = 64 << 20
"""The largest list of images or layers."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.")


class Store:
    """A store; `driver` is the one that has images in it."""

    def __init__(self, path: str) -> None:
        """Open the directory of a store.

        Raises:
            OSError: it cannot be opened.
        """
        self.path = path
        self._folder = Folder(path)
        self.driver = next(
            (name for name in (*DRIVERS, *OTHERS) if self._folder.exists(f"{name}-images")), None
        )

    @property
    def title(self) -> str:
        """The store, for people."""
        return f"{NAME} ({self.path}, {self.driver})"

    def close(self) -> None:
        """Close the directory."""
        self._folder.close()

    def records(self) -> list[Record]:
        """Return the images of the store.

        Raises:
            ImageError: the list cannot be read.
        """
        if self.driver is None:
            return []
        records = []
        for item in self._list(f"{self.driver}-images/images.json"):
            image_id, layer, names = item.get("id"), item.get("layer"), item.get("names")
            digest = item.get("digest")
            if isinstance(image_id, str) and isinstance(layer, str) and _is_name(image_id):
                records.append(
                    Record(
                        image_id,
                        tuple(name for name in names if isinstance(name, str))
                        if isinstance(names, list)
                        else (),
                        layer,
                        digest if oci.is_digest(digest) else None,
                    )
                )
        return records

    def open(self, record: Record, architecture: str | None = None) -> Image:  # noqa: ARG002
        """Open an image.

        Raises:
            ImageError: it cannot be read.
        """
        if self.driver not in DRIVERS:
            raise ImageError(
                f"{self.path}: images of the storage driver {self.driver} cannot be read",
                hint="save the image, and name the archive: podman save -o FILE, --archive FILE",
                code="CDG-M023",
            )
        key = f"sha256:{record.image_id}"
        location = f"{self.driver}-images/{record.image_id}/{_file_name(key)}"
        content = self._folder.read(location, MAX_JSON)
        configuration = oci.configuration(oci.document(content, f"{self.path}/{location}"))
        return Image(
            name=record.name,
            store=self.title,
            files=Files(self._layers(record.place)),
            digest=record.digest or key,
            environment=configuration.environment,
            labels=configuration.labels,
            architecture=configuration.architecture,
        )

    def _layers(self, top: str) -> list[Layer]:
        parents: dict[str, str] = {}
        for item in self._list(f"{self.driver}-layers/layers.json"):
            layer, parent = item.get("id"), item.get("parent", "")
            if isinstance(layer, str) and isinstance(parent, str):
                parents[layer] = parent
        chain: list[str] = []
        while top and top not in chain and len(chain) <= oci.MAX_LAYERS:
            if not _is_name(top) or top not in parents:
                raise DamagedImageError(
                    f"{self.path} has no layer {top}", hint="pull the image again", code="CDG-M026"
                )
            chain.append(top)
            top = parents[top]
        if self.driver == "vfs":
            return [
                TreeLayer(self._open(f"vfs/dir/{layer}"), has_marks=False) for layer in chain[:1]
            ]
        return [
            TreeLayer(self._open(f"overlay/{layer}/diff"), has_marks=True)
            for layer in reversed(chain)
        ]

    def _open(self, path: str) -> Folder:
        return open_below(self._folder, path)

    def _list(self, path: str) -> list[dict[str, object]]:
        content = self._folder.read(path, MAX_LIST)
        if content is None:
            return []
        try:
            items = parse(content)
        except (JSONError, HookError, RecursionError) as error:
            raise DamagedImageError(f"{self.path}/{path}: {error}") from None
        if not isinstance(items, list):
            raise DamagedImageError(f"{self.path}/{path}: not a list")
        return [item for item in items if isinstance(item, dict)]


def open_below(folder: Folder, path: str) -> Folder:
    """Open a directory of a store; links on the way do not lead out of the store.

    Raises:
        ImageError: the user may not, or it is missing.
    """
    try:
        return folder.below(path)
    except OSError as error:
        raise folder.error(path, error) from None


def _file_name(key: str) -> str:
    """Return the name of the file with an image's data, as the library's makeBigDataBaseName."""
    if _PLAIN.issuperset(key):
        return key
    return f"={base64.b64encode(key.encode()).decode()}"


def _is_name(text: str) -> bool:
    return bool(text) and "/" not in text and text not in {".", ".."}
