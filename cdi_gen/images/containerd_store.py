# SPDX-License-Identifier: Apache-2.0
"""Images of containerd: Kubernetes, nerdctl, and Docker with containerd's image store.

The names are in the database `meta.db`, the manifests, configurations and packed layers in the
content store, the unpacked layers in directories of the snapshotters overlayfs and native. The
unpacked layers are preferred; other snapshotters are not read, then the packed layers are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from cdi_base.errors import shown
from cdi_gen.images import blobs, bolt, oci
from cdi_gen.images.bolt import Bucket
from cdi_gen.images.containers_storage import open_below
from cdi_gen.images.docker_store import chain_ids
from cdi_gen.images.errors import DamagedImageError, ImageError
from cdi_gen.images.files import Files
from cdi_gen.images.folder import Folder
from cdi_gen.images.layers import Layer, TreeLayer
from cdi_gen.images.model import Image, Record
from cdi_gen.images.sources import FileSource, Source

NAME = "containerd"
META = "io.containerd.metadata.v1.bolt/meta.db"
CONTENT = "io.containerd.content.v1.content"
OVERLAYFS, NATIVE = "overlayfs", "native"
_SNAPSHOTTER = "io.containerd.snapshotter.v1."
_VERSION = b"v1"

T = TypeVar("T")


class Store:
    """The data of a containerd."""

    def __init__(self, path: str) -> None:
        """Open containerd's root.

        Raises:
            OSError: it cannot be opened.
        """
        self.path = path
        self._folder = Folder(path)
        self.has_images = self._folder.exists(META)

    @property
    def title(self) -> str:
        """The store, for people."""
        return f"{NAME} ({self.path})"

    def close(self) -> None:
        """Close the directory."""
        self._folder.close()

    def records(self) -> list[Record]:
        """Return the images of all namespaces.

        Raises:
            ImageError: the database cannot be read.
        """
        return self._read(META, _records) if self.has_images else []

    def open(self, record: Record, architecture: str | None = None) -> Image:
        """Open an image.

        Raises:
            ImageError: it cannot be read.
        """
        folder = Folder(self.path)
        opener = blobs.folder_opener(folder, _content_path)
        try:
            return self._opened(record, opener, folder, architecture)
        except BaseException:
            folder.close()
            raise

    def _opened(
        self, record: Record, opener: blobs.Opener, folder: Folder, architecture: str | None
    ) -> Image:
        top = oci.Descriptor(f"sha256:{record.image_id}")
        manifest = oci.manifest(blobs.content_of(opener), top, architecture)
        configuration = manifest.configuration
        layers, kind = self._unpacked(record.place, configuration.diff_ids)
        if not layers:
            kind = "packed layers"
            self._require_layers(manifest.layers)
            layers = blobs.layers(opener, manifest.layers)
        return Image(
            name=record.name,
            store=f"{NAME} ({self.path}, namespace {record.place}, {kind})",
            files=Files(layers),
            digest=record.digest or top.digest,
            environment=configuration.environment,
            labels=configuration.labels,
            architecture=configuration.architecture,
            holds=folder,
        )

    def _require_layers(self, layers: tuple[oci.Descriptor, ...]) -> None:
        for layer in layers:
            if not self._folder.exists(_content_path(layer.digest)):
                others = ", ".join(map(shown, self._other_snapshotters()))
                raise ImageError(
                    f"{self.path}: the layer {layer.digest} is not in the content store"
                    + (f"; the snapshotters {others} cannot be read" if others else ""),
                    hint="save the image, and name the archive: "
                    "ctr -n NAMESPACE image export FILE NAME, --archive FILE",
                    code="CDG-M023" if others else "CDG-M026",
                )

    def _other_snapshotters(self) -> list[str]:
        names = [entry.name for entry in self._folder.names("/")]
        return sorted(
            name.removeprefix(_SNAPSHOTTER)
            for name in names
            if name.startswith(_SNAPSHOTTER)
            and name.removeprefix(_SNAPSHOTTER) not in {OVERLAYFS, NATIVE}
            and self._folder.exists(f"{name}/metadata.db")
        )

    def _unpacked(self, namespace: str, diff_ids: tuple[str, ...]) -> tuple[list[Layer], str]:
        """Return the unpacked layers and the snapshotter; none if no snapshotter has them."""
        if not diff_ids:
            return [], ""
        top = chain_ids(diff_ids)[-1]
        for snapshotter in (OVERLAYFS, NATIVE):
            name = self._read(META, partial(_snapshot, namespace, snapshotter, top))
            database = f"{_SNAPSHOTTER}{snapshotter}/metadata.db"
            if name is None or not self._folder.exists(database):
                continue
            numbers = self._read(database, partial(_chain, name))
            base = f"{_SNAPSHOTTER}{snapshotter}/snapshots"
            if snapshotter == NATIVE:
                folder = open_below(self._folder, f"{base}/{numbers[0]}")
                return [TreeLayer(folder, has_marks=False)], snapshotter
            return [
                TreeLayer(open_below(self._folder, f"{base}/{number}/fs"), has_marks=True)
                for number in reversed(numbers)
            ], snapshotter
        return [], ""

    def _read(self, path: str, function: Callable[[Bucket], T]) -> T:
        def open_source() -> Source:
            try:
                return FileSource(self._folder.open(path))
            except OSError as error:
                raise self._folder.error(path, error) from None

        return bolt.read(open_source, f"{self.path}/{path}", function)


def _records(root: Bucket) -> list[Record]:
    records = []
    version = root.bucket(_VERSION)
    for namespace, bucket in version.buckets() if version else ():
        images = bucket.bucket(b"images")
        for name, image in images.buckets() if images else ():
            target = image.bucket(b"target")
            digest = (target.get(b"digest") if target else None) or b""
            if oci.is_digest(_text(digest)):
                number = _text(digest).partition(":")[2]
                records.append(Record(number, (_text(name),), _text(namespace), _text(digest)))
    return records


def _snapshot(namespace: str, snapshotter: str, chain_id: str, root: Bucket) -> bytes | None:
    """Return the key of a snapshot in the snapshotter's own database."""
    bucket = root.bucket(
        _VERSION, namespace.encode(), b"snapshots", snapshotter.encode(), chain_id.encode()
    )
    return None if bucket is None else bucket.get(b"name")


def _chain(key: bytes, root: Bucket) -> list[int]:
    """Return the numbers of a snapshot and of those below it."""
    snapshots = root.bucket(_VERSION, b"snapshots")
    numbers: list[int] = []
    while key:
        bucket = snapshots.bucket(key) if snapshots else None
        number = bucket.get(b"id") if bucket else None
        if bucket is None or number is None or len(numbers) > oci.MAX_LAYERS:
            raise DamagedImageError(f"the snapshot {shown(_text(key))} is missing")
        numbers.append(bolt.uvarint(number))
        key = bucket.get(b"parent") or b""
    return numbers


def _content_path(digest: str) -> str:
    return f"{CONTENT}/{blobs.blob_path(digest)}"


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
