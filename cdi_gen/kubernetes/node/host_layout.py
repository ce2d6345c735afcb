# SPDX-License-Identifier: Apache-2.0
"""Where things are on a host: the engine and its files, the place of the programs, the socket."""

from __future__ import annotations

import os
from typing import NamedTuple

from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root
from cdi_gen.kubernetes.node import hosts, mounted_paths
from cdi_gen.kubernetes.node.engine import EngineFiles
from cdi_gen.kubernetes.node.host_process import HostView
from cdi_gen.kubernetes.node.settings import NodeSettings
from cdi_gen.paths import join


class HostLayout(NamedTuple):
    """The places on a host."""

    root: str
    """The host's directory for the programs."""
    view: HostView
    socket: str
    """The path of the engine's socket for this process."""
    distribution: hosts.Distribution | None
    """None if no engine is configured."""
    files: EngineFiles | None
    """None if no engine is configured."""


def host_layout(settings: NodeSettings) -> HostLayout:
    """Find the places.

    Raises:
        CdiGenError: the host has no engine, or several; its system does not let programs be
            installed; or a directory is not found on the host.
    """
    host = Root(seen_from=settings.host_root)
    root = settings.root or _default_root(host, settings)
    distribution = files = None
    if settings.hooks and settings.configure_engine:
        distribution, files = _engine_files(host, settings)
    return HostLayout(
        root,
        _view(settings, root, files),
        _socket(host, settings, distribution),
        distribution,
        files,
    )


def _default_root(host: Root, settings: NodeSettings) -> str:
    """Return the directory for this host's system."""
    system = hosts.system_of(host)
    if system is None or not settings.hooks:
        return hosts.DEFAULT_ROOT
    if system.root is None:
        raise CdiGenError(
            f"{system.name} cannot be set up from a container: {system.reason}",
            hint="use --hook-free, and the device plugin with CDI, which needs no handler; or the "
            "system's own support of NVIDIA GPUs",
            code="CDG-N405",
        )
    return system.root


def _engine_files(host: Root, settings: NodeSettings) -> tuple[hosts.Distribution, EngineFiles]:
    """Return the engine and the host's paths of its files."""
    configuration, drop_in = settings.configuration, settings.drop_in
    if configuration is not None:
        configuration = mounted_paths.host_path(configuration, host, settings.host_root)
    if drop_in is not None:
        drop_in = settings.drop_in_on_host or mounted_paths.host_path(
            drop_in, host, settings.host_root
        )
    named = drop_in or configuration
    distribution = hosts.distribution_of(host, settings.engine, named, settings.socket)
    files = EngineFiles(
        settings.engine or distribution.engine,
        configuration or distribution.configuration,
        drop_in,
    )
    return distribution, files


def _view(settings: NodeSettings, root: str, files: EngineFiles | None) -> HostView:
    """Return how this process sees the host; the pairs are of files in the directories."""
    pairs = [
        (join(directory, "x"), join(directory, "x")) for directory in (root, settings.cdi_directory)
    ]
    if files is not None:
        pairs += [
            (settings.configuration or "", files.configuration),
            (settings.drop_in or "", files.drop_in or ""),
        ]
        if settings.crio_mode == "hook":
            hook_file = join(settings.hooks_directory, settings.hook_file)
            pairs.append((hook_file, hook_file))
    return mounted_paths.view_of(settings, pairs)


def _socket(host: Root, settings: NodeSettings, distribution: hosts.Distribution | None) -> str:
    path = settings.socket
    if path is None:
        path = distribution.socket if distribution else ""
    elif os.path.exists(path):
        return path
    try:
        return host.open_path(host.resolve(path))
    except OSError:
        return host.open_path(path)
