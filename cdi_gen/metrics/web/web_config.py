# SPDX-License-Identifier: Apache-2.0
"""Reads the web configuration file, and reads it again when it or a file that it names has changed.

As in exporter-toolkit a change counts from the next request or connection on, and a file that is
not valid any more refuses all of them. Only whether there is TLS does not change in a running
program.
"""

from __future__ import annotations

import os
import ssl
import stat
from typing import NamedTuple

from cdi_base import files
from cdi_gen.errors import ExitCode
from cdi_gen.metrics.web import tls
from cdi_gen.metrics.web.config_file import WebConfig, WebConfigError, parse_web_config

MAX_BYTES = 1 << 20


class UnsafeWebConfigError(WebConfigError):
    """Another user could change who may read the metrics."""

    code = "CDG-O153"
    exit_code = ExitCode.UNSAFE


class WebSettings(NamedTuple):
    """A web configuration in effect."""

    config: WebConfig = WebConfig()
    tls: ssl.SSLContext | None = None


_Identity = tuple[tuple[int, ...] | None, ...]


class WebConfigFile:
    """The web configuration file of a running program.

    Args:
        path: of the file; empty: there is none.

    Raises:
        WebConfigError: it cannot be used.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._files: tuple[str, ...] = (path,) if path else ()
        self._identity: _Identity = ()
        self._error: WebConfigError | None = None
        self._settings: WebSettings | None = None
        if path:
            self._identity = self._identities()
            self._settings = self._read()
            self._identity = self._identities()

    @property
    def has_tls(self) -> bool:
        """Whether the program serves TLS."""
        return self._settings is not None and self._settings.tls is not None

    def current(self) -> WebSettings:
        """Return what is in effect now.

        Raises:
            WebConfigError: the file is not valid any more.
        """
        identity = self._identities()
        if identity != self._identity:
            self._identity = identity
            self._error = None
            try:
                self._settings = self._read()
            except WebConfigError as error:
                self._error = error
            # The files that it names may be others now.
            self._identity = self._identities()
        if self._error is not None:
            raise self._error
        return self._settings or WebSettings()

    def _identities(self) -> _Identity:
        return tuple(map(_identity, self._files))

    def _read(self) -> WebSettings:
        content = _content(self._path)
        if self._settings is not None and not content.strip():
            # It is being written. It would allow everything.
            raise WebConfigError(
                f"the web configuration {self._path} has become empty",
                hint="write `{}` into it if nothing is to be restricted",
                subject=self._path,
            )
        config = parse_web_config(content, self._path)
        section = config.tls
        pems = (section.certificate, section.private_key, section.client_ca) if section else ()
        self._files = (self._path, *(pem.path for pem in pems if pem and pem.path))
        for path in self._files:
            _check_mode(path)
        if self._settings is not None and (self._settings.tls is None) != (section is None):
            verb = "added" if self._settings.tls is None else "removed"
            raise WebConfigError(
                f"{self._path}: tls_server_config was {verb}; a running program does not change it",
                hint="restart the program",
                subject=self._path,
            )
        try:
            context = tls.context(section) if section else None
        except WebConfigError as error:
            message = f"{self._path}: {error.message}"
            raise WebConfigError(message, hint=error.hint, subject=self._path) from error
        return WebSettings(config, context)


def _content(path: str) -> bytes:
    try:
        return files.read(path, MAX_BYTES, follow=True)
    except OSError as error:
        is_refused = isinstance(error, PermissionError)
        raise WebConfigError(
            f"cannot read the web configuration {path}: {error.strerror}",
            hint=f"user {os.geteuid()}, as whom the service runs, must be able to read it"
            if is_refused
            else "name an existing file with --web-config",
            subject=path,
        ) from error


def _check_mode(path: str) -> None:
    """Check that no other user may write a file.

    Raises:
        UnsafeWebConfigError: every user may.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # reading it says so
    if mode & stat.S_IWOTH:
        raise UnsafeWebConfigError(
            f"every user may write {path}, and so decide who may read the metrics",
            hint=f"chmod o-w {path}",
            subject=path,
        )


def _identity(path: str) -> tuple[int, ...] | None:
    """Return what changes when a file is written or replaced."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
