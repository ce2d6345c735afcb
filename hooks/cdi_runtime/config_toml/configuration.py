# SPDX-License-Identifier: Apache-2.0
"""Reads the `config.toml` of the NVIDIA Container Toolkit, which the host's administrator edits."""

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
    """Return the host's configuration; the defaults if the host has no file.

    Args:
        path: a file that must exist. None: the file that NVIDIA_CTK_CONFIG_FILE_PATH names, which
            must exist too; without the variable, the file below XDG_CONFIG_HOME or /etc, if it
            exists.
        environment: where these two variables are read; None: the environment of the process.

    Raises:
        ConfigurationError: the file does not exist, can be changed by others than root, is not
            TOML, or has a value that its key does not allow.
    """
    variables = os.environ if environment is None else environment
    required = path or _path_in(OVERRIDE, variables)
    file = required or f"{_path_in('XDG_CONFIG_HOME', variables) or '/etc'}/{nvidia.CONFIGURATION}"
    try:
        content = _read(file)
    except FileNotFoundError:
        if required:
            raise ConfigurationError(f"{shown(file)} does not exist") from None
        return Configuration()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.EPERM:
            reason = f"{reason}; only root may be able to change it (root:root, mode 0644)"
        raise ConfigurationError(f"{shown(file)} is not read: {reason}") from None
    return parse(content, file)


def _path_in(name: str, environment: Mapping[str, str]) -> str:
    """Return the path that a variable holds; an empty text if the variable is not set.

    If a spec gives a hook no `env`, runc before 1.3 starts the hook with the image's environment,
    in the image's root. So a path that could lead to a file of the image is rejected: a relative
    path, and a path in /proc or /dev.

    Raises:
        ConfigurationError: the variable holds such a path.
    """
    path = environment.get(name, "")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path and (path[0] != "/" or ".." in parts or parts[:1] in (["proc"], ["dev"])):
        raise ConfigurationError(
            f"{name} is {shown(path)}: config.toml must have an absolute path outside of /proc and "
            "/dev, without '..'"
        )
    return path


def parse(content: bytes, source: str) -> Configuration:
    """Return the configuration in a file's content.

    Raises:
        ConfigurationError: the content is not TOML, or has a value that its key does not allow.
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
        FileNotFoundError: the file does not exist.
        OSError: the file cannot be read, or others than root can change it.
    """
    # The machine's root acts on the file for all users, so the whole path is checked. The
    # directories of a rootless user may be writable by the user's own group, as useradd and
    # umask 002 create them.
    if os.geteuid() == 0 and trust.in_first_user_namespace():
        absolute = path if path.startswith("/") else f"{os.getcwd()}/{path}"
        if reason := trust.fault(absolute):
            raise PermissionError(errno.EPERM, reason.removeprefix(f"{path} "), path)
    return trust.read(path, MAX_BYTES, follow=True)
