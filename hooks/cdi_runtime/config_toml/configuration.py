# SPDX-License-Identifier: Apache-2.0
"""Reads NVIDIA Container Toolkit's `config.toml`, in which the administrator of a host decides."""

from __future__ import annotations

import errno
import os

from cdi_base import nvidia, toml, trust
from cdi_base.errors import shown
from cdi_runtime.config_toml.settings import Configuration, ConfigurationError
from cdi_runtime.config_toml.values import settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

OVERRIDE = "NVIDIA_CTK_CONFIG_FILE_PATH"
MAX_BYTES = 1 << 18


def load(path: str | None = None, environment: Mapping[str, str] | None = None) -> Configuration:
    """The host's configuration; the defaults where it has none.

    Args:
        path: of a file that must be there. None: where NVIDIA_CTK_CONFIG_FILE_PATH says, which must
            be there too, or else below XDG_CONFIG_HOME or /etc, if it is there.
        environment: has these two variables; that of the process if None.

    Raises:
        ConfigurationError: it is not there, not of root's, not TOML, or has a value that is not
            what its key takes.
    """
    told = os.environ if environment is None else environment
    chosen = path or _place(OVERRIDE, told)
    place = chosen or f"{_place('XDG_CONFIG_HOME', told) or '/etc'}/{nvidia.CONFIGURATION}"
    try:
        content = _read(place)
    except FileNotFoundError:
        if chosen:
            raise ConfigurationError(f"{shown(place)} is not there") from None
        return Configuration()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.EPERM:
            reason = f"{reason}; only root may be able to change it (root:root, mode 0644)"
        raise ConfigurationError(f"{shown(place)} is not read: {reason}") from None
    return parse(content, place)


def _place(name: str, environment: Mapping[str, str]) -> str:
    """A path that a variable says.

    Of a spec without `env`, runc before 1.3 starts hooks with the image's environment, in the
    image's root. So what can lead to a file of the image is refused: a relative path, and one in
    /proc or /dev.

    Raises:
        ConfigurationError: it is such a path.
    """
    path = environment.get(name, "")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path and (path[0] != "/" or ".." in parts or parts[:1] in (["proc"], ["dev"])):
        raise ConfigurationError(f"{name} is {shown(path)}, which is no place for config.toml")
    return path


def parse(content: bytes, source: str) -> Configuration:
    """The configuration that a file's content is.

    Raises:
        ConfigurationError: as `load`.
    """
    try:
        values, lines = toml.parse(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{shown(source)}, line {line}: not UTF-8", code="CDG-C102"
        ) from None
    except toml.TomlError as error:
        raise ConfigurationError(f"{shown(source)}, {error}", code="CDG-C102") from None
    return settings(values, source, lines)


def _read(path: str) -> bytes:
    """Return the file's content.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, or others than root can change it.
    """
    # The machine's root acts on the file for all users. A rootless user's own directories may be
    # writable by the user's own group, as useradd and umask 002 make them.
    if os.geteuid() == 0 and trust.in_first_user_namespace():
        absolute = path if path.startswith("/") else f"{os.getcwd()}/{path}"
        if reason := trust.fault(absolute):
            raise PermissionError(errno.EPERM, reason.removeprefix(f"{path} "), path)
    return trust.read(path, MAX_BYTES, follow=True)
