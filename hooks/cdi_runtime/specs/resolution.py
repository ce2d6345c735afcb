# SPDX-License-Identifier: Apache-2.0
"""Resolves a container's request to container edits of the specs that CDI engines read.

    mode        specs of a kind
    auto        the spec files in the spec directories; without such files, the prepared specs
    legacy      the same as auto
    cdi         the spec files in the spec directories
    jit-cdi     the prepared specs ("just in time": generated again when the host has changed)

Devices of another vendor come from the spec directories in every mode. `runtime.nvidia.com/gpu=0`
is the device `0` of the prepared spec.

A name without a kind is a device of `default-kind`. If that kind lacks it, it is one of
`nvidia.com/gpu`: NVIDIA's GPU Operator makes `management.nvidia.com/gpu` the default, which has the
device `all` only, and pods request single GPUs by UUID.
"""

from __future__ import annotations

from cdi_base import requirement
from cdi_base.cdi import injection, spec_directories
from cdi_base.cdi.names import is_qualified
from cdi_base.errors import HookError, shown
from cdi_base.findings import Finding
from cdi_base.nvidia import cdi_name, gpu_minor
from cdi_runtime import request
from cdi_runtime.request.environment import process_of, variables_of
from cdi_runtime.specs import prepared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Optional  # noqa: TID251  (never imported when it runs)

    from cdi_base.cdi.spec_directories import Conversion, Stamp
    from cdi_runtime.config_toml.settings import Configuration
    from cdi_runtime.request import Request

    Document = dict[str, object]
    Directories = list[list[Document]]
    Load = Callable[
        [Configuration, Callable[[Finding], object], Optional[Mapping[str, Stamp]]],
        prepared.Prepared,
    ]

AUTO, CDI, JIT, LEGACY, CSV = "auto", "cdi", "jit-cdi", "legacy", "csv"

JIT_VENDOR = "runtime.nvidia.com"
"""The vendor that NVIDIA's runtime gives to devices of specs that it generates and no file
holds."""

VENDOR = "nvidia.com"
GPU, CAPABILITY, IMEX, MIG = "gpu", "cap", "imex-channel", "mig"
ALL = "all"

MAX_DEVICES_SHOWN = 12
"""The number of devices that an error lists."""
MAX_REASONS = 3
"""The number of unused spec files that an error explains."""


class ResolutionError(HookError):
    """A requested device does not exist, or the specs that define it are not available."""

    code = "CDG-R201"


def edits(
    config: Document,
    settings: Configuration,
    *,
    annotations: bool,
    report: Callable[[Finding], object] = lambda _: None,
    load: Load | None = None,
) -> list[Document] | None:
    """Return the `containerEdits` of a container for `injection.apply`; None without a request.

    Args:
        config: the bundle's `config.json`.
        settings: the settings of `config.toml`.
        annotations: whether device names in annotations count. For the shim they do in the modes
            auto and cdi, as in NVIDIA's runtime; for the prestart hook they do not.
        report: takes warnings and decisions for the log.
        load: returns the prepared file; None: `prepared.load`, which writes the file if needed.

    Raises:
        RequestError: the request is invalid or not allowed.
        ResolutionError, injection.UnresolvedError: a device does not exist.
        prepared.NotPreparedError: the prepared specs are not available.
        requirement.UnsatisfiedError: the selected GPUs do not meet `NVIDIA_REQUIRE_*`.
    """
    mode = settings.mode
    if mode == CSV:
        raise ResolutionError(
            "mode csv of config.toml is not supported: write a spec with `nvidia-ctk cdi generate "
            "--mode csv --output /etc/cdi/nvidia.yaml`, and set mode to auto",
            code="CDG-C105",
        )
    container_request = request.read(
        config,
        settings,
        annotations=annotations and mode in {AUTO, CDI},
        qualified_annotations=mode == AUTO,
    )
    for warning in container_request.warnings:
        report(warning)
    if not container_request.devices:
        return None
    message = f"{', '.join(container_request.devices)} of {container_request.source}, mode {mode}"
    report(Finding("CDG-R001", "info", message))
    devices = _without_jit_vendor(container_request.devices)
    prefer_prepared = mode == JIT or devices != container_request.devices
    resolver = _Resolver(settings, report, load or prepared.load, prefer_prepared=prefer_prepared)
    return resolver.edits(config, container_request, devices)


class _Resolver:
    """Finds the specs of a kind; spec directories and the prepared file are read once, if needed.

    Args:
        settings: the settings of `config.toml`.
        report: takes warnings and decisions for the log.
        load: returns the prepared file.
        prefer_prepared: whether the prepared specs come before those of the spec directories.
    """

    def __init__(
        self,
        settings: Configuration,
        report: Callable[[Finding], object],
        load: Load,
        *,
        prefer_prepared: bool,
    ) -> None:
        self._settings = settings
        self._report = report
        self._load = load
        self._prefer_prepared = prefer_prepared
        self._directories: Directories | None = None
        self._unused_files: list[str] = []
        self._prepared: prepared.Prepared | None = None
        self._specs_by_kind: dict[str, Directories] = {}
        self._names_by_kind: dict[str, dict[str, str]] = {}

    def edits(
        self, config: Document, container_request: Request, devices: tuple[str, ...]
    ) -> list[Document]:
        """Return the edits of the requested devices, capabilities, modes and channels."""
        gpu_kind = self._gpu_kind([name for name in devices if not is_qualified(name)])
        names = []
        for name in devices:
            kind, _, device = name.partition("=") if is_qualified(name) else (gpu_kind, "", name)
            names.append(self._qualified(kind, device))
        if not all(map(is_qualified, devices)):
            names += self._capabilities(gpu_kind, container_request.capabilities)
        for mode in container_request.modes:
            names += self._special_mode(_same_vendor(gpu_kind, mode))
        names += self._mig_access(_same_vendor(gpu_kind, MIG), container_request)
        names += self._channels(_same_vendor(gpu_kind, IMEX), container_request.imex_channels)
        names = list(dict.fromkeys(names))
        self._report(Finding("CDG-R001", "info", f"CDI devices {', '.join(names)}"))
        edits = injection.resolve(names, self._specs_of_kinds(names))
        if any(name.startswith(f"{gpu_kind}=") for name in names):
            self._check_requirements(config, edits)
        return edits

    def _gpu_kind(self, devices: Sequence[str]) -> str:
        """Return the kind of the devices that are named by their indices and UUIDs alone."""
        default, usual = self._settings.default_kind, f"{VENDOR}/{GPU}"
        if self._settings.mode != CDI and (
            self._prefer_prepared or not _of_kind(self._specs_in_directories(), default)
        ):
            return usual
        if default != usual and self._spellings(default) and not self._has(default, devices):
            return usual if self._has(usual, devices) else default
        return default

    def _has(self, kind: str, devices: Sequence[str]) -> bool:
        """Whether the specs of a kind define all of these devices."""
        spellings = self._spellings(kind)
        return all(cdi_name(device).lower() in spellings for device in devices)

    def _specs(self, kind: str) -> Directories:
        """Return the specs of a kind from the first source that has any."""
        if kind not in self._specs_by_kind:
            sources = [self._specs_in_directories, self._prepared_specs]
            directories_only = self._settings.mode == CDI and not self._prefer_prepared
            if directories_only or not kind.startswith(f"{VENDOR}/"):
                sources.remove(self._prepared_specs)
            elif self._prefer_prepared:
                sources.reverse()
            self._specs_by_kind[kind] = next(
                (specs for source in sources if (specs := _of_kind(source(), kind))), []
            )
        return self._specs_by_kind[kind]

    def _specs_of_kinds(self, names: list[str]) -> Directories:
        """Return the specs of the kinds of these qualified names, by directory priority."""
        kinds = dict.fromkeys(name.partition("=")[0] for name in names)
        specs_by_kind = [self._specs(kind) for kind in kinds]
        merged: Directories = [[] for _ in range(max(map(len, specs_by_kind)))]
        for directories in specs_by_kind:
            for level, specs in enumerate(directories):
                merged[level] += specs
        return merged

    def _specs_in_directories(self) -> Directories:
        if self._directories is None:
            self._directories = spec_directories.read(
                self._settings.spec_dirs, self._convert, self._note_unused_file
            )
        return self._directories

    def _note_unused_file(self, finding: Finding) -> None:
        self._unused_files.append(finding.message)
        self._report(finding)

    def _convert(self, stamps: Mapping[str, Stamp]) -> Mapping[str, Conversion]:
        return self._load_prepared(stamps).converted

    def _prepared_specs(self) -> Directories:
        prepared_file = self._load_prepared()
        if prepared_file.problem:
            raise prepared.NotPreparedError(prepared_file.problem, code=prepared_file.code)
        return [prepared_file.specs]

    def _load_prepared(self, stamps: Mapping[str, Stamp] | None = None) -> prepared.Prepared:
        if self._prepared is None or not self._prepared.has_converted(stamps or {}):
            self._prepared = self._load(self._settings, self._report, stamps)
        return self._prepared

    def _qualified(self, kind: str, device: str) -> str:
        """Return the qualified name of a device; upper and lower case in a UUID are the same."""
        device = cdi_name(device)
        names = self._spellings(kind)
        if not names:
            message = f"no CDI spec in {', '.join(self._settings.spec_dirs)} defines {shown(kind)}"
            # One of the unused files may define the kind.
            reasons = self._unused_files or [
                "for GPUs, write one with: cdi-gen generate -o /etc/cdi/nvidia.json"
            ]
            raise ResolutionError("; ".join([message, *reasons[:MAX_REASONS]]), code="CDG-R202")
        if device not in names and device.lower() not in names:
            existing = _shortened(list(dict.fromkeys(names.values())))
            raise ResolutionError(
                f"{kind} has no device {shown(device)[1:-1]}; available: {existing}"
            )
        return f"{kind}={names.get(device) or names[device.lower()]}"

    def _spellings(self, kind: str) -> dict[str, str]:
        """Return the names of a kind's devices, by themselves and in lower case."""
        if kind not in self._names_by_kind:
            # A name of the same case comes before a name that differs in case.
            spellings = self._names_by_kind[kind] = {
                name: name for name in spec_directories.devices_of(kind, self._specs(kind))
            }
            for name in [*spellings]:
                spellings.setdefault(name.lower(), name)
        return self._names_by_kind[kind]

    def _capabilities(self, gpu_kind: str, capabilities: Sequence[str]) -> list[str]:
        """Return the driver capabilities as CDI devices, if a spec defines them."""
        kind = _same_vendor(gpu_kind, CAPABILITY)
        has_gpu_file = not self._prefer_prepared and _of_kind(
            self._specs_in_directories(), gpu_kind
        )
        if has_gpu_file and not _of_kind(self._specs_in_directories(), kind):
            # The GPUs' spec in a directory contains all capabilities, unless another spec there
            # defines them.
            return []
        names = spec_directories.devices_of(kind, self._specs(kind))
        for capability in capabilities:
            if names and capability not in names:
                message = f"the driver has no files for the capability {capability}"
                self._report(Finding("CDG-G104", "info", message, subject=capability))
        return [f"{kind}={capability}" for capability in capabilities if capability in names]

    def _special_mode(self, kind: str) -> list[str]:
        """Return the devices of a special mode (NVIDIA_GDS, …); none if the host lacks the mode."""
        try:
            names = spec_directories.devices_of(kind, self._specs(kind))
        except prepared.NotPreparedError as error:
            self._report(Finding(error.code, "warning", str(error)))
            names = []
        if not names:
            message = f"this host has no {kind}: left out"
            self._report(Finding("CDG-R205", "warning", message, subject=kind))
        return [f"{kind}={ALL}"] if ALL in names else [f"{kind}={name}" for name in names]

    def _channels(self, kind: str, numbers: Sequence[int]) -> list[str]:
        if numbers and self._settings.mode == CDI and not self._specs(kind):
            # NVIDIA's runtime ignores IMEX channels in mode cdi.
            message = f"no spec file defines {kind}: no IMEX channel is injected"
            self._report(Finding("CDG-R205", "warning", message, subject=kind))
            return []
        return [self._qualified(kind, str(number)) for number in numbers]

    def _mig_access(self, kind: str, container_request: Request) -> list[str]:
        requested = (
            ("config", container_request.mig_config),
            ("monitor", container_request.mig_monitor),
        )
        return [self._qualified(kind, name) for name, is_requested in requested if is_requested]

    def _check_requirements(self, config: Document, edits: list[Document]) -> None:
        required = requirement.from_environment(variables_of(process_of(config), requirement.NAMES))
        if not required or self._settings.disable_require:
            return
        try:
            facts = requirement.Facts.from_document(self._load_prepared().facts or {})
        except prepared.NotPreparedError as error:
            # The specs are in the spec directories: other engines use them without this check.
            message = f"requirements are not checked: {error}"
            self._report(Finding("CDG-R206", "warning", message))
            return
        for doubt in requirement.check(required, facts.with_nodes(_minors(edits))):
            self._report(Finding("CDG-R804", "warning", doubt))


def _without_jit_vendor(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the devices; the names of the vendor `JIT_VENDOR` as names in the prepared spec.

    Raises:
        ResolutionError: only some of the devices are of this vendor.
    """
    prefix = f"{JIT_VENDOR}/"
    jit_names = [name for name in names if name.startswith(prefix)]
    if not jit_names:
        return names
    for name in names:
        if not name.startswith(f"{prefix}{GPU}="):
            raise ResolutionError(
                f"{shown(jit_names[0])[1:-1]} and {shown(name)[1:-1]} cannot be requested "
                f"together: devices of {JIT_VENDOR}/{GPU} are generated at container start, all "
                "other devices are defined by spec files",
                code="CDG-R203",
            )
    return tuple(name.partition("=")[2] for name in names)


def _of_kind(directories: Directories, kind: str) -> Directories:
    """Return the specs of one kind, by directory; an empty list if no directory has any."""
    specs_of_kind = [[spec for spec in specs if spec.get("kind") == kind] for specs in directories]
    return specs_of_kind if any(specs_of_kind) else []


def _same_vendor(kind: str, class_: str) -> str:
    """Return the kind of another class of the same vendor."""
    return f"{kind.partition('/')[0]}/{class_}"


def _minors(edits: list[Document]) -> list[int]:
    """Return the minor numbers of the GPU nodes, /dev/nvidiaN, in the edits."""
    minors = []
    for container_edits in edits:
        nodes = container_edits.get("deviceNodes")
        for node in nodes if isinstance(nodes, list) else ():
            path = node.get("path") if isinstance(node, dict) else None
            directory, _, name = str(path).rpartition("/")
            minor = gpu_minor(name) if directory == "/dev" else None
            if minor is not None:
                minors.append(minor)
    return list(dict.fromkeys(minors))


def _shortened(names: list[str]) -> str:
    """Return a list for a message, short names first, because users select GPUs by index."""
    short = sorted(names, key=len)
    rest = len(names) - MAX_DEVICES_SHOWN
    more = f" and {rest} more" if rest > 0 else ""
    return ", ".join(short[:MAX_DEVICES_SHOWN]) + more
