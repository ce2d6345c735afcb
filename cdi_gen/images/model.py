# SPDX-License-Identifier: Apache-2.0
"""An image: its configuration and its files."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Protocol

from cdi_gen.images.files import Files


class Closable(Protocol):
    """What an image holds open: an archive, a directory with blobs."""

    def close(self) -> None:
        """Close it."""


class Record(NamedTuple):
    """An image in the list of a store."""

    image_id: str
    """The digest that identifies the image, without ``sha256:``."""
    names: tuple[str, ...]
    place: str
    """Where the store has it: the top layer, the storage driver, the namespace."""
    digest: str | None = None
    """Of the manifest, if the list has it."""

    @property
    def name(self) -> str:
        """A name, or the id of an image without one."""
        return self.names[0] if self.names else self.image_id


class Store(Protocol):
    """A store of images."""

    path: str

    @property
    def title(self) -> str:
        """The store, for people."""

    def records(self) -> list[Record]:
        """Return the images of the store."""

    def open(self, record: Record, architecture: str | None = None) -> Image:
        """Open an image."""

    def close(self) -> None:
        """Close the store; its open images stay open."""


class Image:
    """An image that was opened; `close` it, or use it in a `with` statement."""

    def __init__(
        self,
        *,
        name: str,
        store: str,
        files: Files | None,
        digest: str | None = None,
        environment: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        architecture: str | None = None,
        unread: tuple[str, ...] = (),
        holds: Closable | None = None,
    ) -> None:
        """Hold what a store has of an image.

        Args:
            name: with registry and tag, or the path of a directory or archive.
            store: where the image is, for people: ``Docker (/var/lib/docker, overlay2)``.
            files: None if only the configuration can be read.
            digest: of the manifest, or of the configuration if the store has no manifest.
            environment: the variables of the image's configuration.
            labels: of the image's configuration.
            architecture: in OCI's words.
            unread: what cannot be read, a sentence each.
            holds: is closed with the image.
        """
        self.name = name
        self.store = store
        self.files = files
        self.digest = digest
        self.environment = dict(environment or {})
        self.labels = dict(labels or {})
        self.architecture = architecture
        self.unread = unread
        self._holds = holds

    def close(self) -> None:
        """Free the image's files."""
        if self.files is not None:
            self.files.close()
        if self._holds is not None:
            self._holds.close()

    def __enter__(self) -> Image:  # noqa: PYI034 - Self is of Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
