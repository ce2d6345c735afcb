# SPDX-License-Identifier: Apache-2.0
"""Reads a bundle's `config.json` strictly, and replaces it whole or not at all."""

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
    """The bundle or its config.json cannot be used."""

    code = "CDG-R501"


class Bundle:
    """An open bundle. `config` is the content of its config.json; the caller changes it."""

    __slots__ = ("_directory", "_name", "_status", "config", "path")

    def __init__(self, directory: str, name: str = oci_config.NAME) -> None:
        """Open the bundle and read its configuration.

        Args:
            directory: the path of the bundle; a relative path starts at the current directory, as
                in runc and crun.
            name: the name of the configuration file in the bundle.

        Raises:
            BundleError: the file does not exist, is not a regular file that root or the caller
                owns, or is not one JSON object of at most 8 MiB.
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
            # The mode is not checked: containerd creates the file with mode 0666 less its umask,
            # in a directory that other users cannot enter.
            if not trust.is_trusted_owner(status.st_uid):
                raise BundleError(
                    f"{shown(self.path)} belongs to user {status.st_uid}, not to root or to the "
                    "user who starts the container"
                )
            content = files.beginning(descriptor, oci_config.MAX_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(content) > oci_config.MAX_BYTES:
            raise BundleError(f"{shown(self.path)} is larger than {oci_config.MAX_BYTES} bytes")
        return content, status

    def replace(self) -> None:
        """Replace the file by `config`; the file keeps its owner and mode.

        Raises:
            BundleError: the file cannot be written, or JSON cannot express a number in it; the old
                file is then unchanged.
        """
        content = _encode(self.config, self.path)
        status = self._status
        try:
            # Not synchronized to the disk: the container does not survive a crash of the machine.
            files.replace(
                self._name,
                content,
                directory=self._directory,
                durable=False,
                mode=stat.S_IMODE(status.st_mode),
                owner=(status.st_uid, status.st_gid),
            )
        except OSError as error:
            raise BundleError(
                f"cannot write {shown(self.path)}: {error.strerror}", code="CDG-R503"
            ) from None


def _encode(config: Document, path: str) -> bytes:
    try:
        return strict_json.encode(config).encode()
    except (ValueError, RecursionError):
        raise BundleError(
            f"{shown(path)}: a number is too large, or objects are nested too deep", code="CDG-R502"
        ) from None
