# SPDX-License-Identifier: Apache-2.0
"""The facts about each engine, from ``facts`` in ``specs/cdi_specs/engines.json``.

A version is the first release of which a statement is true (``..._since``) or no longer true
(``..._until``). The table is read when the first fact is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from cdi_gen.cdi import engine_table

Facts = TypeVar("Facts")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainersConfFacts:
    """A program that reads ``containers.conf``: Buildah, and with more facts Podman."""

    cdi_since: str
    build_spec_directories_since: str
    """``build`` reads ``cdi_spec_dirs``; earlier releases read the two default directories."""
    run_spec_directories_since: str
    """The same for ``run``."""
    both_directories_since: str
    """Earlier releases that read ``cdi_spec_dirs`` have /etc/cdi as their only default."""
    configuration_directory: str
    vendor_configuration: str
    drop_in: str
    """Below the directory of the machine or of the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodmanFacts(ContainersConfFacts):
    """Podman."""

    hooks_directory: str
    """The directory of OCI hooks that every Podman reads by default, and CRI-O too."""
    gpus_since: str
    """``--gpus NAME`` means ``--device nvidia.com/gpu=NAME``; earlier releases ignore it."""
    api_devices_since: str
    """The API for Docker's clients takes device requests, those with the driver ``cdi``."""
    kube_devices_since: str
    """``kube play`` takes CDI devices as resources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerFacts:
    """Docker."""

    cdi_since: str
    cdi_by_default_since: str
    """Earlier releases need ``features.cdi``."""
    user_spec_directories_since: str
    """A rootless daemon reads the user's own spec directories by default."""
    gpus_by_cdi_since: str
    """``docker run --gpus`` uses CDI devices if dockerd finds `gpus_by_cdi_program`."""
    gpus_by_cdi_program: str
    gpus_by_hook_program: str
    """dockerd runs this program as a prestart hook for ``--gpus``, if its PATH has the program."""
    build_devices_since: str
    """The builder in dockerd grants devices to ``RUN --device``."""
    compose_gpus_since: str
    """The version of Docker Compose that knows ``gpus``, and CDI devices in ``devices``."""
    configuration: str
    user_configuration: str
    """Below ``$XDG_CONFIG_HOME``."""
    runc_shim: str
    restart: str
    user_restart: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerdFacts:
    """containerd."""

    cdi_since: str
    cdi_by_default_since: str
    """Earlier releases need ``enable_cdi``."""
    ctr_cdi_since: str
    """``ctr run --device`` takes CDI devices."""
    ctr_gpus_by_cdi_since: str
    """``ctr run --gpus`` takes CDI devices; earlier releases run nvidia-container-cli."""
    merged_drop_ins_since: str
    """In earlier releases a drop-in replaces the whole table of a plugin."""
    file_version_3_since: str
    ordered_file_versions_since: str
    """No imported file may have a newer version than the first file, and version 1 counts."""
    default_runtime_table_until: str
    """In earlier releases the table ``default_runtime`` overrides ``default_runtime_name``."""
    built_in_runc_until: str
    """Earlier releases have a default runtime ``runc`` if the configuration has no runtime."""
    exact_key_first_until: str
    """Of two keys that differ in case, earlier releases use the documented spelling, later releases
    the last key."""
    cri_plugins: tuple[str, ...]
    """The key of the CRI plugin in version 1, 2 and 3 of the file; version 4 has that of 3."""
    configuration: str
    drop_in: str
    """Below the directory of the configuration."""
    runc_shim: str
    linux_shim: str
    """The shim before containerd 1.4; its options differ from those of `runc_shim`."""
    restart: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CrioFacts:
    """CRI-O."""

    cdi_since: str
    configuration: str
    drop_in: str
    """Below the directory of the configuration."""
    program_keys: tuple[str, ...]
    """Keys of a runtime that make CRI-O run another program than ``runtime_path``."""
    restart: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NerdctlFacts:
    """nerdctl."""

    cdi_since: str
    gpus_by_cdi_since: str
    """``--gpus`` takes CDI devices; earlier releases run nvidia-container-cli."""
    configuration: str
    user_configuration: str
    """Below ``$XDG_CONFIG_HOME``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A Kubernetes distribution, or Docker, that brings its own containerd."""

    name: str
    files: tuple[str, ...]
    """Patterns of the paths of its configuration."""
    programs: tuple[str, ...]
    """Patterns of the paths of its containerd; the first one that exists counts."""
    writable: tuple[str, ...]
    """Patterns of the files that an administrator may edit; the distribution overwrites others."""
    advice: str
    """Where to write instead; a format string with directory, suffix and name."""
    restart: str


@cache
def podman() -> PodmanFacts:
    """The facts of Podman."""
    return _facts(PodmanFacts, "podman")


@cache
def buildah() -> ContainersConfFacts:
    """The facts of Buildah."""
    return _facts(ContainersConfFacts, "buildah")


@cache
def docker() -> DockerFacts:
    """The facts of Docker."""
    return _facts(DockerFacts, "docker")


@cache
def containerd() -> ContainerdFacts:
    """The facts of containerd."""
    return _facts(ContainerdFacts, "containerd")


@cache
def containerd_distributions() -> tuple[Distribution, ...]:
    """The distributions that bring a containerd."""
    rows = engine_table.engines()["containerd"]["distributions"]
    return tuple(
        Distribution(**{name: _value(row[name]) for name in row if name != "sources"})
        for row in rows
    )


@cache
def crio() -> CrioFacts:
    """The facts of CRI-O."""
    return _facts(CrioFacts, "crio")


@cache
def nerdctl() -> NerdctlFacts:
    """The facts of nerdctl."""
    return _facts(NerdctlFacts, "nerdctl")


def _facts(kind: type[Facts], engine: str) -> Facts:
    facts = engine_table.engines()[engine]["facts"]
    return kind(**{name: _value(fact["value"]) for name, fact in facts.items()})


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
