# SPDX-License-Identifier: Apache-2.0
"""From what a container asks for to the edits it gets: the same specs that CDI engines read.

    mode        the specs
    auto        those of the spec directories where they define the kind, else the prepared ones
    legacy      as auto
    cdi         those of the spec directories
    jit-cdi     the prepared ones ("just in time": they are made anew when the host has changed)

Names of another vendor, and whatever else is written out as `vendor/class=name`, come from the spec
directories in every mode; `runtime.nvidia.com/gpu=0` is the prepared spec's `0`.
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

    from cdi_base.cdi.spec_directories import Conversion, Stamp
    from cdi_runtime.config_toml.settings import Configuration
    from cdi_runtime.request import Request

    Document = dict[str, object]
    Directories = list[list[Document]]

AUTO, CDI, JIT, LEGACY, CSV = "auto", "cdi", "jit-cdi", "legacy", "csv"

ON_THE_SPOT = "runtime.nvidia.com"
"""The peer's vendor for devices of specs that no file holds."""

VENDOR = "nvidia.com"
GPU, CAPABILITY, IMEX, MIG = "gpu", "cap", "imex-channel", "mig"
ALL = "all"

MOST_SHOWN = 12
"""Devices that an error lists."""
MAX_REASONS = 3
"""Spec files that an error says of why they are not used."""


class ResolutionError(HookError):
    """What is asked for is not there, or the specs that have it cannot be had."""

    code = "CDG-R201"


def edits(
    config: Document,
    settings: Configuration,
    *,
    annotations: bool,
    tell: Callable[[Finding], object] = lambda _: None,
) -> list[Document] | None:
    """The `containerEdits` for a container, for `injection.apply`; None: nothing is asked for.

    Args:
        config: the bundle's `config.json`.
        settings: of `config.toml`.
        annotations: whether the caller honours device names in annotations: the shim does, as the
            peer, if the mode is cdi or comes to it; the prestart hook does not.
        tell: takes warnings and what was decided, for a log.

    Raises:
        RequestError: the request makes no sense, or is not allowed.
        ResolutionError, injection.UnresolvedError: a device is not there.
        prepared.NotPreparedError: the host's specs cannot be had.
        requirement.UnsatisfiedError: `NVIDIA_REQUIRE_*` is not met by the selected GPUs.
    """
    mode = settings.mode
    if mode == CSV:
        raise ResolutionError(
            "mode csv of config.toml is not supported: have nvidia-ctk write a spec, `nvidia-ctk "
            "cdi generate --mode csv --output /etc/cdi/nvidia.yaml`, and set mode to auto",
            code="CDG-C105",
        )
    asked = request.read(
        config,
        settings,
        annotations=annotations and mode in {AUTO, CDI},
        qualified_annotations=mode == AUTO,
    )
    for warning in asked.warnings:
        tell(warning)
    if not asked.devices:
        return None
    message = f"{', '.join(asked.devices)} of {asked.source}, mode {mode}"
    tell(Finding("CDG-R001", "info", message))
    devices = _without_vendor(asked.devices)
    on_the_spot = mode == JIT or devices != asked.devices
    return _Resolver(settings, tell, on_the_spot=on_the_spot).edits(config, asked, devices)


class _Resolver:
    """Where the specs of a kind are; each place is read once, when it is first needed.

    Args:
        settings: of `config.toml`.
        tell: takes warnings and what was decided.
        on_the_spot: the prepared specs go before those of the spec directories.
    """

    def __init__(
        self, settings: Configuration, tell: Callable[[Finding], object], *, on_the_spot: bool
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._on_the_spot = on_the_spot
        self._of_directories: Directories | None = None
        self._left_out: list[str] = []
        self._prepared: prepared.Prepared | None = None
        self._known: dict[str, Directories] = {}
        self._names: dict[str, dict[str, str]] = {}

    def edits(self, config: Document, asked: Request, devices: tuple[str, ...]) -> list[Document]:
        """The edits of the request's devices, and of what the request asks for beside them."""
        kind = self._gpu_kind()
        wanted = []
        for name in devices:
            qualified, _, device = name.partition("=") if is_qualified(name) else (kind, "", name)
            wanted.append(self._named(qualified, device))
        if not all(map(is_qualified, devices)):
            wanted += self._capabilities(kind, asked.capabilities)
        for mode in asked.modes:
            wanted += self._special(_beside(kind, mode))
        wanted += self._mig(_beside(kind, MIG), asked)
        wanted += self._channels(_beside(kind, IMEX), asked.imex_channels)
        wanted = list(dict.fromkeys(wanted))
        self._tell(Finding("CDG-R001", "info", f"CDI devices {', '.join(wanted)}"))
        found = injection.resolve(wanted, self._searched(wanted))
        if any(name.startswith(f"{kind}=") for name in wanted):
            self._check_requirements(config, found)
        return found

    def _gpu_kind(self) -> str:
        """The kind that indices and UUIDs are names of."""
        default = self._settings.default_kind
        if self._settings.mode != CDI and (
            self._on_the_spot or not _define(self._files(), default)
        ):
            return f"{VENDOR}/{GPU}"
        return default

    def _specs(self, kind: str) -> Directories:
        """The specs of a kind, of the one place that they come from."""
        if kind not in self._known:
            places = [self._files, self._made]
            files_alone = self._settings.mode == CDI and not self._on_the_spot
            if files_alone or not kind.startswith(f"{VENDOR}/"):
                places.remove(self._made)
            elif self._on_the_spot:
                places.reverse()
            self._known[kind] = next(
                (found for place in places if (found := _define(place(), kind))), []
            )
        return self._known[kind]

    def _searched(self, names: list[str]) -> Directories:
        """The specs of all kinds of these qualified names, a directory for each priority."""
        kinds = dict.fromkeys(name.partition("=")[0] for name in names)
        of_kinds = [self._specs(kind) for kind in kinds]
        searched: Directories = [[] for _ in range(max(map(len, of_kinds)))]
        for directories in of_kinds:
            for level, specs in enumerate(directories):
                searched[level] += specs
        return searched

    def _files(self) -> Directories:
        if self._of_directories is None:
            self._of_directories = spec_directories.read(
                self._settings.spec_dirs, self._converted, self._leave_out
            )
        return self._of_directories

    def _leave_out(self, finding: Finding) -> None:
        self._left_out.append(finding.message)
        self._tell(finding)

    def _converted(self, wanted: Mapping[str, Stamp]) -> Mapping[str, Conversion]:
        return self._preparation(wanted).converted

    def _made(self) -> Directories:
        found = self._preparation()
        if found.problem:
            raise prepared.NotPreparedError(found.problem, code=found.code)
        return [found.specs]

    def _preparation(self, wanted: Mapping[str, Stamp] | None = None) -> prepared.Prepared:
        if self._prepared is None or not self._prepared.has(wanted or {}):
            self._prepared = prepared.load(self._settings, self._tell, wanted)
        return self._prepared

    def _named(self, kind: str, wanted: str) -> str:
        """The qualified name of a device, whatever the case of its UUID."""
        wanted = cdi_name(wanted)
        if kind not in self._names:
            # A name as it is written goes before one that differs in case.
            known = self._names[kind] = {
                name: name for name in spec_directories.devices_of(kind, self._specs(kind))
            }
            for name in [*known]:
                known.setdefault(name.lower(), name)
        names = self._names[kind]
        if not names:
            message = f"no CDI spec in {', '.join(self._settings.spec_dirs)} defines {shown(kind)}"
            # It may be in one of these.
            reasons = self._left_out or [
                "for GPUs one is made by: cdi-gen generate -o /etc/cdi/nvidia.json"
            ]
            raise ResolutionError("; ".join([message, *reasons[:MAX_REASONS]]), code="CDG-R202")
        if wanted not in names and wanted.lower() not in names:
            there = _listed(list(dict.fromkeys(names.values())))
            raise ResolutionError(f"{kind} has no device {shown(wanted)[1:-1]}; there is: {there}")
        return f"{kind}={names.get(wanted) or names[wanted.lower()]}"

    def _capabilities(self, kind: str, capabilities: Sequence[str]) -> list[str]:
        """The driver capabilities as devices, where there is a spec of them beside the GPUs'."""
        beside = _beside(kind, CAPABILITY)
        in_file = not self._on_the_spot and _define(self._files(), kind)
        if in_file and not _define(self._files(), beside):
            # A spec in a file is complete unless the capabilities are in one too.
            return []
        names = spec_directories.devices_of(beside, self._specs(beside))
        for each in capabilities:
            if names and each not in names:
                message = f"the driver has nothing for the capability {each}"
                self._tell(Finding("CDG-G104", "info", message, subject=each))
        return [f"{beside}={each}" for each in capabilities if each in names]

    def _special(self, kind: str) -> list[str]:
        """What NVIDIA_GDS and its like ask for; a host without it starts the container without."""
        try:
            names = spec_directories.devices_of(kind, self._specs(kind))
        except prepared.NotPreparedError as error:
            self._tell(Finding(error.code, "warning", str(error)))
            names = []
        if not names:
            message = f"this host has no {kind}: left out"
            self._tell(Finding("CDG-R205", "warning", message, subject=kind))
        return [f"{kind}={ALL}"] if ALL in names else [f"{kind}={name}" for name in names]

    def _channels(self, kind: str, numbers: Sequence[int]) -> list[str]:
        if numbers and self._settings.mode == CDI and not self._specs(kind):
            # The peer's mode cdi knows no channels at all.
            message = f"no spec file defines {kind}: no IMEX channel is given"
            self._tell(Finding("CDG-R205", "warning", message, subject=kind))
            return []
        return [self._named(kind, str(number)) for number in numbers]

    def _mig(self, kind: str, asked: Request) -> list[str]:
        switches = (("config", asked.mig_config), ("monitor", asked.mig_monitor))
        return [self._named(kind, name) for name, wanted in switches if wanted]

    def _check_requirements(self, config: Document, edits: list[Document]) -> None:
        required = requirement.from_environment(variables_of(process_of(config), requirement.NAMES))
        if not required or self._settings.disable_require:
            return
        try:
            facts = requirement.Facts.from_document(self._preparation().facts or {})
        except prepared.NotPreparedError as error:
            # The specs are files, and the container was started so far without any check.
            message = f"requirements are not checked: {error}"
            self._tell(Finding("CDG-R206", "warning", message))
            return
        for doubt in requirement.check(required, facts.of_nodes(_minors(edits))):
            self._tell(Finding("CDG-R804", "warning", doubt))


def _without_vendor(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names as the prepared spec has them, if they are of the peer's vendor for that.

    Raises:
        ResolutionError: only some of them are.
    """
    prefix = f"{ON_THE_SPOT}/"
    mine = [name for name in names if name.startswith(prefix)]
    if not mine:
        return names
    for name in names:
        if not name.startswith(f"{prefix}{GPU}="):
            raise ResolutionError(
                f"{shown(mine[0])[1:-1]} and {shown(name)[1:-1]} cannot be asked for together: "
                f"devices of {ON_THE_SPOT}/{GPU} are made on the spot, all others are of spec "
                "files",
                code="CDG-R203",
            )
    return tuple(name.partition("=")[2] for name in names)


def _define(directories: Directories, kind: str) -> Directories:
    """The specs of a kind alone, by directory; none where no directory has any."""
    found = [[spec for spec in specs if spec.get("kind") == kind] for specs in directories]
    return found if any(found) else []


def _beside(kind: str, class_: str) -> str:
    """Another class of the same vendor."""
    return f"{kind.partition('/')[0]}/{class_}"


def _minors(edits: list[Document]) -> list[int]:
    """Which /dev/nvidiaN the edits bring."""
    found = []
    for each in edits:
        nodes = each.get("deviceNodes")
        for node in nodes if isinstance(nodes, list) else ():
            path = node.get("path") if isinstance(node, dict) else None
            directory, _, name = str(path).rpartition("/")
            minor = gpu_minor(name) if directory == "/dev" else None
            if minor is not None:
                found.append(minor)
    return list(dict.fromkeys(found))


def _listed(names: list[str]) -> str:
    """Short names first: people ask by index."""
    short = sorted(names, key=len)
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(short[:MOST_SHOWN]) + more
