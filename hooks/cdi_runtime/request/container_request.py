# SPDX-License-Identifier: Apache-2.0
"""What a container asks for, by its config.json: devices, capabilities, channels, and the rest.

Devices are asked for in the first of these places that has any:

1. annotations, whose names begin with a prefix of config.toml (CDI names, of any vendor);
2. mounts in /var/run/nvidia-container-devices, where config.toml accepts them;
3. the variables that config.toml lists as `swarm-resource`, all those that are set;
4. NVIDIA_VISIBLE_DEVICES.

The environment is the image's and whoever's who starts the container. So a CDI name in it has to be
of NVIDIA's vendors, and config.toml can make it count for privileged containers alone.
"""

from __future__ import annotations

from cdi_base import json_object
from cdi_base.cdi.names import is_device, is_qualified, vendor_of
from cdi_base.errors import shown
from cdi_base.findings import Finding
from cdi_runtime.driver_capabilities import DEFAULT
from cdi_runtime.request import device_names, driver_capabilities, imex_channels, mount_list
from cdi_runtime.request.device_names import RequestError
from cdi_runtime.request.environment import WHERE, is_privileged, process_of, variables_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_runtime.config_toml.settings import Configuration

    Document = dict[str, object]

__all__ = ["VENDORS", "Request", "RequestError", "read"]

VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"
DRIVER_CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"
IMEX_CHANNELS = "NVIDIA_IMEX_CHANNELS"
MIG_CONFIG, MIG_MONITOR = "NVIDIA_MIG_CONFIG_DEVICES", "NVIDIA_MIG_MONITOR_DEVICES"
MODES = {
    "NVIDIA_GDS": "gds",
    "NVIDIA_MOFED": "mofed",
    "NVIDIA_GDRCOPY": "gdrcopy",
    "NVIDIA_NVSWITCH": "nvswitch",
}
ENABLED, DISABLED = "enabled", "disabled"
CUDA_VERSION, REQUIRE_CUDA = "CUDA_VERSION", "NVIDIA_REQUIRE_CUDA"
READ = (
    *(VISIBLE_DEVICES, DRIVER_CAPABILITIES, IMEX_CHANNELS, MIG_CONFIG, MIG_MONITOR, *MODES),
    *(CUDA_VERSION, REQUIRE_CUDA),
)
"""The variables that are read, beside those of `swarm-resource`."""

VENDORS = ("nvidia.com", "runtime.nvidia.com")
"""Whose CDI names may come from the environment; `runtime` is the peer's for specs in no file."""
PRIVILEGED_VENDORS = ("management.nvidia.com",)
"""Those too, from a privileged container's: the GPU Operator's own pods ask so."""

IGNORE_CHANNELS = "ignore-imex-channel-requests"
ACCEPT_MOUNTS = "accept-nvidia-visible-devices-as-volume-mounts"
ACCEPT_UNPRIVILEGED = "accept-nvidia-visible-devices-envvar-when-unprivileged"
"""Keys of config.toml."""


class Request:
    """What a container asks for. `devices` is () where it asks for nothing; then the rest is empty.

    `("none",)` is the driver's files alone. A device is an index, `G:M`, a UUID as it was written,
    a name of a spec (`pci-0000-3b-00-0`), or a CDI name; `all` and `none` are the first if there.
    """

    __slots__ = (
        "capabilities",
        "devices",
        "imex_channels",
        "mig_config",
        "mig_monitor",
        "modes",
        "source",
        "warnings",
    )

    def __init__(self, devices: tuple[str, ...], source: str) -> None:
        self.devices = devices
        self.source = source
        """Where they were asked for, for people."""
        self.capabilities: tuple[str, ...] = ()
        self.modes: tuple[str, ...] = ()
        """Of gds, mofed, gdrcopy and nvswitch."""
        self.imex_channels: tuple[int, ...] = ()
        self.mig_config = False
        self.mig_monitor = False
        self.warnings: tuple[Finding, ...] = ()
        """What was asked for and is not given."""


def read(
    config: Document,
    settings: Configuration,
    *,
    annotations: bool,
    qualified_annotations: bool = False,
) -> Request:
    """The request of a container.

    Args:
        config: the bundle's `config.json`.
        settings: of `config.toml`.
        annotations: whether devices in annotations count.
        qualified_annotations: whether they count only if all of them are CDI names.

    Raises:
        RequestError: it makes no sense, or asks for what the container may not have; config.json is
            not what the OCI runtime specification says.
    """
    try:
        reader = _Reader(config, settings)
        return reader.request(annotations=annotations, qualified_annotations=qualified_annotations)
    except json_object.DocumentError as error:
        raise RequestError(str(error), code=error.code) from None


class _Reader:
    """One config.json, by the host's rules."""

    def __init__(self, config: Document, settings: Configuration) -> None:
        process = process_of(config)
        self._config = config
        self._settings = settings
        self._environment = variables_of(
            process, tuple(f"{name}=" for name in (*READ, *settings.swarm_resource))
        )
        self._privileged = is_privileged(process)
        self._counts = self._privileged or settings.accept_environment_unprivileged
        self._warnings: list[Finding] = []
        self._mounted_channels: list[str] = []

    def request(self, *, annotations: bool, qualified_annotations: bool) -> Request:
        annotated = self._annotated(qualified=qualified_annotations) if annotations else None
        devices, source = annotated or self._devices()
        made = Request(devices, source)
        if devices:
            made.capabilities = self._capabilities()
            made.modes = self._modes()
            made.imex_channels = self._channels()
            made.mig_config = self._mig(MIG_CONFIG)
            made.mig_monitor = self._mig(MIG_MONITOR)
        made.warnings = tuple(self._warnings)
        return made

    # Devices.

    def _devices(self) -> tuple[tuple[str, ...], str]:
        words, source = self._mounted()
        if words:
            return self._named(words, source), source
        return self._of_environment()

    def _annotated(self, *, qualified: bool) -> tuple[tuple[str, ...], str] | None:
        found = json_object.object_of(self._config, "annotations", WHERE)
        prefixes = self._settings.annotation_prefixes
        names = sorted(name for name in found if name.startswith(prefixes))
        source = ", ".join(f"annotation {shown(name)}" for name in names)[: device_names.MAX_SHOWN]
        each = (
            word for name in names for word in _words_of(found[name], f"annotation {shown(name)}")
        )
        words = device_names.distinct(each, source)
        devices = self._named(words, source) if words else ()
        if not devices or (qualified and not all(map(is_qualified, devices))):
            return None
        return devices, source

    def _mounted(self) -> tuple[list[str], str]:
        mounts = json_object.objects_of(self._config, "mounts", WHERE)
        if self._settings.accept_volume_mounts:
            source = f"the mounts in {mount_list.ROOT}"
            words, channels = mount_list.read(mounts)
            self._mounted_channels = device_names.distinct(channels, source)
            return device_names.distinct(words, source), source
        if any(map(mount_list.entry, mounts)):
            self._warn(
                f"the mounts in {mount_list.ROOT} are ignored: "
                f"config.toml says {ACCEPT_MOUNTS} = false"
            )
        return [], ""

    def _of_environment(self) -> tuple[tuple[str, ...], str]:
        environment = self._environment
        names = [name for name in self._settings.swarm_resource if name in environment]
        if not names and VISIBLE_DEVICES in environment:
            names = [VISIBLE_DEVICES]
        source = ", ".join(names)
        if not names:
            if not self._is_legacy():
                return (), ""
            source = f"{CUDA_VERSION} without {REQUIRE_CUDA}"
        if not self._counts:
            # What is no request is not worth a line for each container.
            if any(self._asks(name) for name in names) or not names:
                self._ignored(source)
            return (), source
        if not names:
            return (device_names.ALL,), source
        each = (word for name in names for word in device_names.words(environment[name], name))
        words = device_names.distinct(each, source)
        self._check_no_directory(words, source)
        found = self._named(words, source)
        for name in filter(is_qualified, found):
            self._check_vendor(name, source)
        return found, source

    def _named(self, words: list[str], source: str) -> tuple[str, ...]:
        # Spec files may have names of their own; where specs are made they are known.
        free = is_device if self._settings.mode == "cdi" else None
        return device_names.devices(words, source, free)

    def _asks(self, name: str) -> bool:
        text = self._environment[name]
        return text.strip(" ,").lower() not in {"", device_names.VOID}

    def _is_legacy(self) -> bool:
        """Whether the image is older than requirements: such images had all there was."""
        environment = self._environment
        return bool(environment.get(CUDA_VERSION)) and not environment.get(REQUIRE_CUDA)

    def _check_vendor(self, name: str, source: str) -> None:
        vendor = vendor_of(name)
        if vendor in VENDORS or vendor == vendor_of(self._settings.default_kind):
            return
        what = f"{source}: {shown(name)[1:-1]}"
        if vendor not in PRIVILEGED_VENDORS:
            raise RequestError(
                f"{what} is another vendor's, which the environment cannot ask for; "
                "have the engine do it, by --device or an annotation",
                code="CDG-R104",
            )
        if not self._privileged:
            raise RequestError(
                f"{what} is for privileged containers (CAP_SYS_ADMIN)", code="CDG-R103"
            )

    def _check_no_directory(self, words: list[str], source: str) -> None:
        """Device plugins that list devices as mounts say in the variable where those are."""
        if mount_list.ROOT in words:
            accepted = self._settings.accept_volume_mounts
            why = "there are none" if accepted else f"config.toml says {ACCEPT_MOUNTS} = false"
            raise RequestError(
                f"{source} says that devices are listed as mounts: {why}", code="CDG-R105"
            )

    def _warn(self, message: str) -> None:
        self._warnings.append(Finding("CDG-R110", "warning", message))

    def _ignored(self, source: str) -> None:
        self._warn(
            f"{source} is ignored: the container is not privileged, and config.toml says "
            f"{ACCEPT_UNPRIVILEGED} = false"
        )

    # What else there is.

    def _capabilities(self) -> tuple[str, ...]:
        supported = self._settings.supported_driver_capabilities
        text = self._environment.get(DRIVER_CAPABILITIES)
        if text is None and self._is_legacy():
            return supported
        words = device_names.words(text or "", DRIVER_CAPABILITIES, device_names.MAX_SHORT)
        if not words:
            return tuple(each for each in supported if each in DEFAULT)
        try:
            return driver_capabilities.chosen(words, supported)
        except ValueError as error:
            raise RequestError(f"{DRIVER_CAPABILITIES}: {error}", code="CDG-R106") from None

    def _modes(self) -> tuple[str, ...]:
        found = []
        for name, mode in MODES.items():
            value = self._environment.get(name)
            if value == ENABLED and self._counts:
                found.append(mode)
            elif value == ENABLED:
                self._ignored(name)
            elif value and value != DISABLED:
                self._warn(f"{name} is {shown(value)[:40]}: only {ENABLED!r} counts")
        return tuple(found)

    def _channels(self) -> tuple[int, ...]:
        words, source = self._mounted_channels, f"the mounts in {mount_list.ROOT}/{mount_list.IMEX}"
        if not words:
            source = IMEX_CHANNELS
            if source in self._environment and not self._counts:
                self._ignored(source)
                return ()
            words = device_names.words(self._environment.get(source, ""), source)
        if words and self._settings.features.get(IGNORE_CHANNELS):
            self._warn(f"{source}: ignored, as config.toml says by {IGNORE_CHANNELS}")
            return ()
        if device_names.ALL in words:
            self._warn(f"{source}: 'all' is ignored, channels have numbers")
        return imex_channels.channels(words, source)

    def _mig(self, name: str) -> bool:
        words = device_names.words(self._environment.get(name, ""), name, device_names.MAX_SHORT)
        if not words:
            return False
        if not self._privileged:
            raise RequestError(
                f"{name} is for privileged containers (CAP_SYS_ADMIN)", code="CDG-R103"
            )
        if set(words) != {device_names.ALL}:
            raise RequestError(
                f"{name} can only be 'all', not {shown(','.join(words))[:80]}", code="CDG-R108"
            )
        return True


def _words_of(value: object, source: str) -> list[str]:
    if not isinstance(value, str):
        raise RequestError(f"{source} is not a text", code="CDG-R109")
    return device_names.words(value, source)
