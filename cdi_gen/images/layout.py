# SPDX-License-Identifier: Apache-2.0
"""Images in directories: OCI layouts, `dir:` of skopeo and podman, and root file systems."""

from __future__ import annotations

import hashlib

from cdi_gen.images import blobs, oci
from cdi_gen.images.errors import MAX_JSON, ImageError
from cdi_gen.images.files import Files
from cdi_gen.images.folder import Folder
from cdi_gen.images.layers import TreeLayer
from cdi_gen.images.model import Image

LAYOUT_FILE = "oci-layout"


def open_layout(path: str, tag: str | None = None, architecture: str | None = None) -> Image:
    """Open an image of an OCI layout.

    Raises:
        ImageError: the directory is none, or the image cannot be read.
    """
    folder = _folder(path)
    try:
        index = blobs.read_json(folder, "index.json")
        name, top = blobs.choose(index, tag, path)
        opener = blobs.folder_opener(folder, blobs.blob_path)
        return blobs.image(name, f"OCI layout {path}", opener, top, architecture, holds=folder)
    except BaseException:
        folder.close()
        raise


def open_transport_directory(path: str, architecture: str | None = None) -> Image:
    """Open an image of the directory that `skopeo copy … dir:PATH` and `podman save` write.

    Raises:
        ImageError: the directory is none, or the image cannot be read.
    """
    folder = _folder(path)
    try:
        content = folder.read("manifest.json", MAX_JSON) or b""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"

        def location(blob: str) -> str:
            return "manifest.json" if blob == digest else blob.partition(":")[2]

        opener = blobs.folder_opener(folder, location)
        top = oci.Descriptor(digest)
        return blobs.image(path, f"directory {path}", opener, top, architecture, holds=folder)
    except BaseException:
        folder.close()
        raise


def open_rootfs(path: str) -> Image:
    """Open a directory with the files of an image, without a configuration."""
    folder = _folder(path)
    return Image(
        name=path,
        store=f"directory {path}",
        files=Files([TreeLayer(folder, has_marks=False)]),
        unread=("the directory has no configuration: variables of the image are not known",),
    )


def open_directory(path: str, architecture: str | None = None) -> Image:
    """Open whatever a directory is: an OCI layout, a directory of skopeo, a root file system."""
    folder = _folder(path)
    try:
        is_layout = folder.exists(LAYOUT_FILE)
        is_transport = folder.exists("manifest.json") and folder.exists("version")
    finally:
        folder.close()
    if is_layout:
        return open_layout(path, None, architecture)
    if is_transport:
        return open_transport_directory(path, architecture)
    return open_rootfs(path)


def _folder(path: str) -> Folder:
    try:
        return Folder(path)
    except OSError as error:
        raise ImageError(
            f"{path}: {error.strerror}", hint="name an existing directory", subject=path
        ) from None
