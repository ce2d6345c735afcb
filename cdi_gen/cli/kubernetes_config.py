# SPDX-License-Identifier: Apache-2.0
"""The config file of ``cdi-gen kubernetes``: which one is used, and when it is read again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cdi_base.findings import Finding
from cdi_gen.cli import console, named_file
from cdi_gen.cli.kubernetes_options import ConfigOptions, require_packages
from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.kubernetes.settings.choice import choose

if TYPE_CHECKING:
    from cdi_gen.kubernetes.node_label import NodeLabel
    from cdi_gen.kubernetes.settings.config_file import ConfigFile

LOOK = 5.0
"""Seconds between two looks whether the file has changed."""


class Configuration:
    """The config file of a node: a file, or the one of a directory that the node's label names.

    Raises:
        UsageError: the options contradict each other.
    """

    def __init__(self, options: ConfigOptions) -> None:
        if options.config_file and options.config_directory:
            raise UsageError(
                "--config-file and --config-directory are both given",
                hint="leave one of them out",
                code="CDG-N003",
                subject="--config-directory",
            )
        if options.config_directory and not options.node_name:
            raise UsageError(
                "--config-directory is given, and the name of the node is not",
                hint="give --node-name, or NODE_NAME from the field spec.nodeName of the pod",
                code="CDG-N003",
                subject="--node-name",
            )
        self.options = options
        self._label: NodeLabel | None = None
        self._read: object = None
        """What was read: the path and the identity of the file."""
        self._announced: str | None = ""

    def read(self) -> ConfigFile | None:
        """Return the content of the config file, and print its findings; None if there is none.

        The first time, this waits for the API server to give the node's label.

        Raises:
            CdiGenError: the file does not exist or is not valid, or none can be chosen.
        """
        from cdi_gen.kubernetes.settings.config_file import (  # noqa: PLC0415
            MAX_BYTES,
            parse_config_file,
        )

        path = self._path()
        if self.options.config_directory and path != self._announced:
            message = f"the config is {path or 'empty'}"
            console.report(
                Finding("CDG-N121", "info", message, subject=self.options.config_directory)
            )
            self._announced = path
        self._read = _identity(path)
        if not path:
            return None
        data, _ = named_file.read(path, MAX_BYTES, name=f"the config file {path}")
        content = parse_config_file(data, path)
        for finding in content.findings:
            console.report(finding)
        return content

    def follow(self, changed: Callable[[], None]) -> None:
        """Call a function from a thread when there is something else to read."""
        if self._label is not None:
            self._label.follow(changed)
        if self.options.config_file or self.options.config_directory:
            threading.Thread(target=self._look, args=(changed,), name="config", daemon=True).start()

    def _look(self, changed: Callable[[], None]) -> None:
        """Look at the file from time to time: a ConfigMap that changes is a new file."""
        announced = self._read
        while True:
            time.sleep(LOOK)
            try:
                now = _identity(self._path())
            except CdiGenError:
                continue  # the function that reads reports it
            if now not in (self._read, announced):
                changed()
            announced = now

    def _path(self) -> str | None:
        directory = self.options.config_directory
        if not directory:
            return self.options.config_file
        if self._label is None:
            self._label = self._follow_label()
            self._label.wait()
        name = choose(
            self._label.value,
            _names(directory),
            self.options.default_config,
            self.options.config_fallbacks,
        )
        return None if name is None else f"{directory}/{name}"

    def _follow_label(self) -> NodeLabel:
        require_packages("urllib3")
        from cdi_gen.kubernetes.access import find_access  # noqa: PLC0415
        from cdi_gen.kubernetes.api import Api  # noqa: PLC0415
        from cdi_gen.kubernetes.node_label import NodeLabel  # noqa: PLC0415

        api = Api(find_access(self.options.kubeconfig or ""))
        return NodeLabel(
            api, self.options.node_name or "", self.options.config_label, console.report
        )


def _names(directory: str) -> set[str]:
    """Return the config files in a directory, without the links that a ConfigMap has for itself."""
    try:
        return {
            entry.name
            for entry in os.scandir(directory)
            if not entry.name.startswith("..") and not entry.is_dir()
        }
    except OSError as error:
        raise CdiGenError(
            f"cannot read the directory {directory}: {error.strerror or error}",
            hint="mount the ConfigMap with the config files there",
            code="CDG-N120",
            subject=directory,
        ) from error


def _identity(path: str | None) -> object:
    """Return what differs when a file has changed."""
    if not path:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return path
    return path, status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
