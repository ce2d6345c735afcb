# SPDX-License-Identifier: Apache-2.0
"""Makes an image of a manifest and a directory or archive with its blobs."""

from __future__ import annotations

from collections.abc import Callable

from cdi_gen.images import oci
from cdi_gen.images.compression import GzipSource, decompressed
from cdi_gen.images.errors import MAX_JSON, DamagedImageError, ImageError
from cdi_gen.images.files import Files
from cdi_gen.images.folder import Folder
from cdi_gen.images.layers import Budget, Layer, TarLayer
from cdi_gen.images.model import Closable, Image
from cdi_gen.images.sources import FileSource, Source

Opener = Callable[[str], "Source | None"]
"""Opens a blob by its digest; None if it is missing."""


class LazySource:
    """A source that is opened, and decompressed, when it is first read."""

    def __init__(self, open_source: Callable[[], Source]) -> None:
        self._open = open_source
        self._source: Source | None = None

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the bytes at the offset, fewer at the end."""
        if self._source is None:
            self._source = self._open()
        return self._source.read_at(offset, length)

    @property
    def is_packed(self) -> bool:
        """Whether the source is decompressed when it is read."""
        self.read_at(0, 0)
        return isinstance(self._source, GzipSource)

    def close(self) -> None:
        """Close the source, if it was opened."""
        if self._source is not None:
            self._source.close()
            self._source = None


def layers(open_blob: Opener, descriptors: tuple[oci.Descriptor, ...]) -> list[Layer]:
    """Return the layers of a manifest, which are opened when they are used."""
    budget = Budget()

    def opener(digest: str) -> Callable[[], Source]:
        def open_layer() -> Source:
            source = open_blob(digest)
            if source is None:
                raise DamagedImageError(
                    f"the store has no layer {digest}",
                    hint="pull the image again, with all its layers",
                    code="CDG-M026",
                )
            return decompressed(source)

        return open_layer

    return [TarLayer(LazySource(opener(item.digest)), item.digest, budget) for item in descriptors]


def image(
    name: str,
    store: str,
    open_blob: Opener,
    top: oci.Descriptor,
    architecture: str | None = None,
    *,
    holds: Closable,
) -> Image:
    """Return the image that a descriptor leads to.

    Args:
        name: of the image.
        store: where it is, for people.
        open_blob: opens blobs.
        top: of its manifest or index.
        architecture: in OCI's words; None: the machine's.
        holds: what the opener reads from; it is closed with the image.

    Raises:
        ImageError: the image cannot be read.
    """
    manifest = oci.manifest(content_of(open_blob), top, architecture)
    configuration = manifest.configuration
    return Image(
        name=name,
        store=store,
        files=Files(layers(open_blob, manifest.layers)),
        digest=manifest.digest,
        environment=configuration.environment,
        labels=configuration.labels,
        architecture=configuration.architecture,
        holds=holds,
    )


def content_of(open_blob: Opener) -> oci.Blob:
    """Return a function that reads whole blobs."""

    def read(digest: str, limit: int) -> bytes | None:
        source = open_blob(digest)
        if source is None:
            return None
        try:
            content = source.read_at(0, limit + 1)
        finally:
            source.close()
        if len(content) > limit:
            raise DamagedImageError(f"{digest} is larger than {limit} bytes")
        return content

    return read


def folder_opener(folder: Folder, path: Callable[[str], str]) -> Opener:
    """Return an opener of blobs that are files of a directory.

    Args:
        folder: with the blobs.
        path: returns the path of a blob in it.
    """

    def open_blob(digest: str) -> Source | None:
        location = path(digest)
        try:
            return FileSource(folder.open(location))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise folder.error(location, error) from None

    return open_blob


def blob_path(digest: str) -> str:
    """Return the path of a blob in an OCI layout and in containerd's store."""
    return f"blobs/{digest.replace(':', '/')}"


def choose(index: dict[str, object], tag: str | None, name: str) -> tuple[str, oci.Descriptor]:
    """Return the name and the descriptor of an image in the index of an OCI layout.

    Args:
        index: the content of index.json.
        tag: the image; None if the layout has one image.
        name: of the layout, for messages.

    Raises:
        ImageError: the layout does not have the image, or has several.
    """
    manifests = index.get("manifests")
    images: dict[str, oci.Descriptor] = {}
    for item in manifests if isinstance(manifests, list) else []:
        annotations = item.get("annotations") if isinstance(item, dict) else None
        annotations = annotations if isinstance(annotations, dict) else {}
        names = [
            str(annotations[key])
            for key in ("io.containerd.image.name", "org.opencontainers.image.ref.name")
            if key in annotations
        ]
        entry = oci.descriptor(item)
        for title in names or [entry.digest]:
            images.setdefault(title, entry)
    if tag is not None:
        for title, entry in images.items():
            if tag in {title, title.rpartition(":")[2], title.rpartition("/")[2]}:
                return title, entry
    elif len({entry.digest for entry in images.values()}) == 1:
        return next(iter(images.items()))
    if tag is None and not images:
        raise DamagedImageError(f"{name} has no image")
    raise ImageError(
        f"{name} has no image {tag}" if tag else f"{name} has {len(images)} images",
        hint=f"name one of them: {', '.join(sorted(images)[:20])}",
        code="CDG-M028" if tag is None else "CDG-M021",
    )


def read_json(folder: Folder, path: str) -> dict[str, object]:
    """Return a JSON object of a directory.

    Raises:
        DamagedImageError: it is missing or damaged.
    """
    return oci.document(folder.read(path, MAX_JSON), f"{folder.path}/{path}")
