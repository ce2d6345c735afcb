# SPDX-License-Identifier: Apache-2.0
"""A bundle's `config.json`: read strictly, and replaced whole or not at all."""

from __future__ import annotations

import errno
import os
import stat

from cdi_base import files, oci_config, strict_json, trust
from cdi_base.errors import HookError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    Document = dict[str, object]


class BundleError(HookError):
    """The bundle or its configuration is not such that a container can be made of it."""

    code = "CDG-R501"


class Bundle:
    """An opened bundle; `config` is its configuration, to be changed."""

    __slots__ = ("_directory", "_name", "_status", "config", "path")

    def __init__(self, directory: str, name: str = oci_config.NAME) -> None:
        """Open and read it.

        Args:
            directory: the bundle; relative to the current directory, as runtimes take it.
            name: of the configuration in it.

        Raises:
            BundleError: it is not there, is no regular file of root or of the caller, or is not one
                JSON object of at most 8 MiB.
        """
        self.path = f"{directory}/{name}"
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            self._directory = os.open(directory, flags)
            content, self._status = self._read(name)
        except OSError as error:
            raise BundleError(f"cannot read {shown(self.path)}: {error.strerror}") from None
        except ValueError:
            raise BundleError(f"{shown(self.path)} is not a path") from None
        self._name = name
        self.config = oci_config.parse(content, shown(self.path))

    def _read(self, name: str) -> tuple[bytes, os.stat_result]:
        try:
            descriptor = files.open_regular(name, directory=self._directory)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BundleError(f"{shown(self.path)} is a symbolic link") from None
            if isinstance(error, files.NotRegularError):
                raise BundleError(f"{shown(self.path)} is not a regular file") from None
            raise
        try:
            status = os.fstat(descriptor)
            # Not the mode: containerd writes the file with 0666 less its umask, in a directory
            # that is closed to others.
            if not trust.is_trusted_owner(status.st_uid):
                raise BundleError(
                    f"{shown(self.path)} belongs to user {status.st_uid}, neither to root nor to "
                    "the one who starts the container"
                )
            content = files.beginning(descriptor, oci_config.MAX_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(content) > oci_config.MAX_BYTES:
            raise BundleError(f"{shown(self.path)} is larger than {oci_config.MAX_BYTES} bytes")
        return content, status

    def replace(self) -> None:
        """Put `config` in the place of what was read, with its owner and mode.

        Raises:
            BundleError: the file system refuses, or a number is one that JSON does not have; the
                old file is then as it was.
        """
        text = _encoded(self.config, self.path)
        status = self._status
        try:
            # Not durable: the container does not survive a crash of the machine.
            files.replace(
                self._name,
                text,
                directory=self._directory,
                durable=False,
                mode=stat.S_IMODE(status.st_mode),
                owner=(status.st_uid, status.st_gid),
            )
        except OSError as error:
            raise BundleError(
                f"cannot write {shown(self.path)}: {error.strerror}", code="CDG-R503"
            ) from None


def _encoded(config: Document, path: str) -> bytes:
    try:
        return strict_json.encode(config).encode()
    except (ValueError, RecursionError):
        raise BundleError(
            f"{shown(path)}: a number is too large, or all is too deep", code="CDG-R502"
        ) from None
