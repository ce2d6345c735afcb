# SPDX-License-Identifier: Apache-2.0
"""Images in archives of `docker save`, `podman save`, `buildah push` and `skopeo copy`.

An archive has manifest.json (docker-archive), index.json (oci-archive), or both (Docker 25).
"""

from __future__ import annotations

from cdi_base import files as host_files
from cdi_gen.images import blobs, oci
from cdi_gen.images.compression import decompressed
from cdi_gen.images.errors import MAX_JSON, DamagedImageError, ImageError
from cdi_gen.images.files import Files
from cdi_gen.images.layers import (
    FILE,
    HARD_LINK,
    LINK,
    Budget,
    Entry,
    Layer,
    TarLayer,
    components,
    tar_entries,
)
from cdi_gen.images.model import Image
from cdi_gen.images.sources import FileSource, PartSource, Source

MAX_MEMBERS = 10_000
"""The largest number of files of an archive of images: a few for each layer."""


class Archive:
    """An archive of images."""

    def __init__(self, path: str) -> None:
        """Open an archive, and read the names in it.

        Raises:
            ImageError: it cannot be read.
        """
        self.path = path
        self._source = _open(path)
        self._entries: dict[str, Entry] = {}
        for name, entry in tar_entries(self._source, path):
            parts = components(name)
            if parts:
                self._entries["/".join(parts)] = entry
            if len(self._entries) > MAX_MEMBERS:
                raise ImageError(
                    f"{path} is not an archive of images: it has more than {MAX_MEMBERS} files",
                    hint="an archive of a root file system: unpack it, and name it with --rootfs",
                )

    def close(self) -> None:
        """Close the archive."""
        self._source.close()

    def has(self, name: str) -> bool:
        """Whether the archive has a file."""
        return name in self._entries

    def names(self) -> list[str]:
        """Return the names in the archive."""
        return list(self._entries)

    def open(self, name: str) -> Source | None:
        """Return the content of a file; None if it is missing.

        Docker before 25 writes a link to the same layer of another image.
        """
        for _ in range(host_files.MAX_LINKS):
            entry = self._entries.get(name)
            if entry is None or entry.kind not in {FILE, LINK, HARD_LINK}:
                return None
            if entry.kind == FILE:
                return PartSource(self._source, entry.position, entry.size)
            folder = name.rpartition("/")[0].split("/") if entry.kind == LINK else []
            name = _joined(folder, entry.target)
        return None

    def document(self, name: str) -> dict[str, object]:
        """Return a JSON object of the archive."""
        return oci.document(self._content(name), f"{self.path}: {name}")

    def images(self) -> list[dict[str, object]]:
        """Return the entries of manifest.json."""
        content = self._content("manifest.json")
        # A list, in which `document` does not believe.
        fields = oci.document(
            b'{"images":' + (content or b"") + b"}", f"{self.path}: manifest.json"
        )
        images = fields["images"]
        if not isinstance(images, list) or not all(isinstance(item, dict) for item in images):
            raise DamagedImageError(f"{self.path}: manifest.json is not a list of images")
        return images

    def _content(self, name: str) -> bytes | None:
        source = self.open(name)
        return None if source is None else source.read_at(0, MAX_JSON)


def open_archive(path: str, tag: str | None = None, architecture: str | None = None) -> Image:
    """Open an image of an archive.

    Args:
        path: of the archive, which may be compressed.
        tag: the image; None if the archive has one image.
        architecture: in OCI's words; None: the machine's.

    Raises:
        ImageError: the image cannot be read.
    """
    archive = Archive(path)
    try:
        if archive.has("manifest.json"):
            return _docker(archive, tag)
        if archive.has("index.json"):
            name, top = blobs.choose(archive.document("index.json"), tag, path)

            def open_blob(digest: str) -> Source | None:
                return archive.open(blobs.blob_path(digest))

            store = f"OCI archive {path}"
            return blobs.image(name, store, open_blob, top, architecture, holds=archive)
    except BaseException:
        archive.close()
        raise
    names = archive.names()
    archive.close()
    raise ImageError(
        f"{path} is not an archive of images: neither manifest.json nor index.json is in it, but "
        f"{', '.join(names[:3]) or 'nothing'}",
        hint="docker save and podman save make such archives; a root file system: --rootfs DIR",
        subject=path,
    )


def _docker(archive: Archive, tag: str | None) -> Image:
    images = archive.images()
    item = _chosen(images, tag, archive.path)
    tags, layers, config = (item.get(key) for key in ("RepoTags", "Layers", "Config"))
    names = [name for name in tags if isinstance(name, str)] if isinstance(tags, list) else []
    if not isinstance(config, str) or not isinstance(layers, list):
        raise DamagedImageError(f"{archive.path}: manifest.json names no layers or configuration")
    configuration = oci.configuration(archive.document(_joined([], config)))
    budget = Budget()
    return Image(
        name=names[0] if names else archive.path,
        store=f"archive {archive.path}",
        files=Files([_layer(archive, str(name), budget) for name in layers[: oci.MAX_LAYERS]]),
        digest=_digest_of(config),
        environment=configuration.environment,
        labels=configuration.labels,
        architecture=configuration.architecture,
        holds=archive,
    )


def _layer(archive: Archive, name: str, budget: Budget) -> Layer:
    def open_layer() -> Source:
        source = archive.open(_joined([], name))
        if source is None:
            raise DamagedImageError(
                f"{archive.path} has no layer {name}", hint="save the image again", code="CDG-M026"
            )
        return decompressed(source)

    return TarLayer(blobs.LazySource(open_layer), name, budget)


def _chosen(images: list[dict[str, object]], tag: str | None, path: str) -> dict[str, object]:
    if tag is None and len(images) == 1:
        return images[0]
    names: list[str] = []
    for item in images:
        tags = item.get("RepoTags")
        for name in tags if isinstance(tags, list) else []:
            names.append(str(name))
            if tag in {name, str(name).rpartition("/")[2]}:
                return item
    raise ImageError(
        f"{path} has no image {tag}" if tag else f"{path} has {len(images)} images",
        hint=f"name one of them: {path}:TAG, where TAG is one of {', '.join(names[:20]) or 'none'}",
        code="CDG-M028" if tag is None else "CDG-M021",
    )


def _digest_of(config: str) -> str | None:
    """Return the digest in the name of the configuration: ``HEX.json``, ``blobs/sha256/HEX``."""
    digest = f"sha256:{config.rpartition('/')[2].removesuffix('.json')}"
    return digest if oci.is_digest(digest) else None


def _joined(folder: list[str], path: str) -> str:
    """Return a path in the archive; `..` does not lead out of it."""
    parts = [] if path.startswith("/") else list(folder)
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def _open(path: str) -> Source:
    try:
        descriptor = host_files.open_regular(path, follow=True)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}", subject=path) from None
    return decompressed(FileSource(descriptor))
