# SPDX-License-Identifier: Apache-2.0
"""Reads a container's request from its config.json: devices, capabilities, channels and so on.

Devices are read from the first of these sources that has any:

1. annotations whose names begin with a prefix in config.toml (CDI names, of any vendor);
2. mounts in /var/run/nvidia-container-devices, if config.toml accepts them;
3. the variables that config.toml lists as `swarm-resource`, all that are set;
4. NVIDIA_VISIBLE_DEVICES.

The image, and the user who starts the container, decide about the environment. So a CDI name in it
must be of one of NVIDIA's vendors, and config.toml can restrict the environment to privileged
containers.
"""

from __future__ import annotations

from cdi_base import json_object
from cdi_base.cdi.names import is_device, is_qualified, vendor_of
from cdi_base.errors import shown
from cdi_base.findings import Finding
from cdi_runtime.driver_capabilities import DEFAULT
from cdi_runtime.request import device_names, driver_capabilities, imex_channels, mount_list
from cdi_runtime.request.device_names import RequestError
from cdi_runtime.request.environment import CONFIG, is_privileged, process_of, variables_of

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
VARIABLES = (
    *(VISIBLE_DEVICES, DRIVER_CAPABILITIES, IMEX_CHANNELS, MIG_CONFIG, MIG_MONITOR, *MODES),
    *(CUDA_VERSION, REQUIRE_CUDA),
)
"""The variables that are read in addition to those of `swarm-resource`."""

VENDORS = ("nvidia.com", "runtime.nvidia.com")
"""The vendors of CDI names that the environment may request. NVIDIA's runtime uses the second for
devices of specs that it generates and no file holds."""
PRIVILEGED_VENDORS = ("management.nvidia.com",)
"""Further vendors for privileged containers: the GPU Operator's pods request their devices."""

IGNORE_CHANNELS = "ignore-imex-channel-requests"
ACCEPT_MOUNTS = "accept-nvidia-visible-devices-as-volume-mounts"
ACCEPT_UNPRIVILEGED = "accept-nvidia-visible-devices-envvar-when-unprivileged"
"""Keys of config.toml."""


class Request:
    """A container's request. Without a request `devices` and all other attributes are empty.

    The devices `("none",)` mean only the driver's files. A device is an index, `G:M`, a UUID in its
    original case, a name in a spec (`pci-0000-3b-00-0`), or a CDI name; `all` and `none` come
    first.
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
        """Where the devices were requested, for messages."""
        self.capabilities: tuple[str, ...] = ()
        self.modes: tuple[str, ...] = ()
        """Some of gds, mofed, gdrcopy and nvswitch."""
        self.imex_channels: tuple[int, ...] = ()
        self.mig_config = False
        self.mig_monitor = False
        self.warnings: tuple[Finding, ...] = ()
        """Parts of the request that are ignored."""


def read(
    config: Document,
    settings: Configuration,
    *,
    annotations: bool,
    qualified_annotations: bool = False,
) -> Request:
    """Return a container's request.

    Args:
        config: the bundle's `config.json`.
        settings: the settings of `config.toml`.
        annotations: whether devices in annotations count.
        qualified_annotations: whether devices in annotations count only if all of them are CDI
            names.

    Raises:
        RequestError: the request is invalid or not allowed, or config.json does not conform to the
            OCI runtime specification.
    """
    try:
        reader = _Reader(config, settings)
        return reader.request(annotations=annotations, qualified_annotations=qualified_annotations)
    except json_object.DocumentError as error:
        raise RequestError(str(error), code=error.code) from None


class _Reader:
    """Reads one config.json according to the settings of config.toml."""

    def __init__(self, config: Document, settings: Configuration) -> None:
        process = process_of(config)
        self._config = config
        self._settings = settings
        self._environment = variables_of(
            process, tuple(f"{name}=" for name in (*VARIABLES, *settings.swarm_resource))
        )
        self._is_privileged = is_privileged(process)
        self._accepts_environment = self._is_privileged or settings.accept_environment_unprivileged
        self._warnings: list[Finding] = []
        self._mounted_channels: list[str] = []

    def request(self, *, annotations: bool, qualified_annotations: bool) -> Request:
        annotated = (
            self._devices_in_annotations(qualified=qualified_annotations) if annotations else None
        )
        devices, source = annotated or self._devices()
        request = Request(devices, source)
        if devices:
            request.capabilities = self._capabilities()
            request.modes = self._modes()
            request.imex_channels = self._channels()
            request.mig_config = self._mig_access(MIG_CONFIG)
            request.mig_monitor = self._mig_access(MIG_MONITOR)
        request.warnings = tuple(self._warnings)
        return request

    # Devices.

    def _devices(self) -> tuple[tuple[str, ...], str]:
        words, source = self._words_in_mounts()
        if words:
            return self._names(words, source), source
        return self._devices_in_environment()

    def _devices_in_annotations(self, *, qualified: bool) -> tuple[tuple[str, ...], str] | None:
        annotations = json_object.object_of(self._config, "annotations", CONFIG)
        prefixes = self._settings.annotation_prefixes
        names = sorted(name for name in annotations if name.startswith(prefixes))
        source = ", ".join(f"annotation {shown(name)}" for name in names)[: device_names.MAX_SHOWN]
        all_words = (
            word
            for name in names
            for word in _words_of(annotations[name], f"annotation {shown(name)}")
        )
        words = device_names.distinct(all_words, source)
        devices = self._names(words, source) if words else ()
        if not devices or (qualified and not all(map(is_qualified, devices))):
            return None
        return devices, source

    def _words_in_mounts(self) -> tuple[list[str], str]:
        mounts = json_object.objects_of(self._config, "mounts", CONFIG)
        if self._settings.accept_volume_mounts:
            source = f"the mounts in {mount_list.ROOT}"
            words, channels = mount_list.read(mounts)
            self._mounted_channels = device_names.distinct(channels, source)
            return device_names.distinct(words, source), source
        if any(map(mount_list.name_of_entry, mounts)):
            self._warn(
                f"the mounts in {mount_list.ROOT} are ignored: "
                f"config.toml says {ACCEPT_MOUNTS} = false"
            )
        return [], ""

    def _devices_in_environment(self) -> tuple[tuple[str, ...], str]:
        environment = self._environment
        names = [name for name in self._settings.swarm_resource if name in environment]
        if not names and VISIBLE_DEVICES in environment:
            names = [VISIBLE_DEVICES]
        source = ", ".join(names)
        if not names:
            if not self._is_legacy_image():
                return (), ""
            source = f"{CUDA_VERSION} without {REQUIRE_CUDA}"
        if not self._accepts_environment:
            # A variable that requests nothing gets no warning, which each container would log.
            if any(self._requests_devices(name) for name in names) or not names:
                self._warn_of_ignored(source)
            return (), source
        if not names:
            return (device_names.ALL,), source
        all_words = (word for name in names for word in device_names.words(environment[name], name))
        words = device_names.distinct(all_words, source)
        self._reject_reference_to_mounts(words, source)
        devices = self._names(words, source)
        for name in filter(is_qualified, devices):
            self._check_vendor(name, source)
        return devices, source

    def _names(self, words: list[str], source: str) -> tuple[str, ...]:
        # Spec files may have any device names; those of prepared specs have one of the known forms.
        is_device_name = is_device if self._settings.mode == "cdi" else None
        return device_names.devices(words, source, is_device_name)

    def _requests_devices(self, name: str) -> bool:
        text = self._environment[name]
        return text.strip(" ,").lower() not in {"", device_names.VOID}

    def _is_legacy_image(self) -> bool:
        """Whether the image is older than `NVIDIA_REQUIRE_CUDA`: such images get all GPUs."""
        environment = self._environment
        return bool(environment.get(CUDA_VERSION)) and not environment.get(REQUIRE_CUDA)

    def _check_vendor(self, name: str, source: str) -> None:
        vendor = vendor_of(name)
        if vendor in VENDORS or vendor == vendor_of(self._settings.default_kind):
            return
        subject = f"{source}: {shown(name)[1:-1]}"
        if vendor not in PRIVILEGED_VENDORS:
            raise RequestError(
                f"{subject} is a device of another vendor, which the environment cannot request; "
                "use the engine's --device or an annotation",
                code="CDG-R104",
            )
        if not self._is_privileged:
            raise RequestError(
                f"{subject} is only for privileged containers (CAP_SYS_ADMIN)", code="CDG-R103"
            )

    def _reject_reference_to_mounts(self, words: list[str], source: str) -> None:
        """Device plugins that list devices as mounts set the variable to the mounts' directory."""
        if mount_list.ROOT in words:
            accepted = self._settings.accept_volume_mounts
            reason = (
                "the container has no such mounts"
                if accepted
                else f"config.toml says {ACCEPT_MOUNTS} = false"
            )
            raise RequestError(
                f"{source} says that devices are listed as mounts in {mount_list.ROOT}: {reason}",
                code="CDG-R105",
            )

    def _warn(self, message: str) -> None:
        self._warnings.append(Finding("CDG-R110", "warning", message))

    def _warn_of_ignored(self, source: str) -> None:
        self._warn(
            f"{source} is ignored: the container is not privileged, and config.toml says "
            f"{ACCEPT_UNPRIVILEGED} = false"
        )

    # Capabilities, modes, channels and MIG access.

    def _capabilities(self) -> tuple[str, ...]:
        supported = self._settings.supported_driver_capabilities
        text = self._environment.get(DRIVER_CAPABILITIES)
        if text is None and self._is_legacy_image():
            return supported
        words = device_names.words(text or "", DRIVER_CAPABILITIES, device_names.MAX_SHORT)
        if not words:
            return tuple(capability for capability in supported if capability in DEFAULT)
        try:
            return driver_capabilities.capabilities(words, supported)
        except ValueError as error:
            raise RequestError(f"{DRIVER_CAPABILITIES}: {error}", code="CDG-R106") from None

    def _modes(self) -> tuple[str, ...]:
        modes = []
        for name, mode in MODES.items():
            value = self._environment.get(name)
            if value == ENABLED and self._accepts_environment:
                modes.append(mode)
            elif value == ENABLED:
                self._warn_of_ignored(name)
            elif value and value != DISABLED:
                self._warn(
                    f"{name} is {shown(value)[:40]}, which is ignored: use {ENABLED!r} or "
                    f"{DISABLED!r}"
                )
        return tuple(modes)

    def _channels(self) -> tuple[int, ...]:
        words, source = self._mounted_channels, f"the mounts in {mount_list.ROOT}/{mount_list.IMEX}"
        if not words:
            source = IMEX_CHANNELS
            if source in self._environment and not self._accepts_environment:
                self._warn_of_ignored(source)
                return ()
            words = device_names.words(self._environment.get(source, ""), source)
        if words and self._settings.features.get(IGNORE_CHANNELS):
            self._warn(f"{source} is ignored: config.toml sets {IGNORE_CHANNELS}")
            return ()
        if device_names.ALL in words:
            self._warn(f"{source}: 'all' is ignored; list channels by number")
        return imex_channels.channels(words, source)

    def _mig_access(self, name: str) -> bool:
        words = device_names.words(self._environment.get(name, ""), name, device_names.MAX_SHORT)
        if not words:
            return False
        if not self._is_privileged:
            raise RequestError(
                f"{name} is only for privileged containers (CAP_SYS_ADMIN)", code="CDG-R103"
            )
        if set(words) != {device_names.ALL}:
            raise RequestError(
                f"{name} must be 'all', not {shown(','.join(words))[:80]}", code="CDG-R108"
            )
        return True


def _words_of(value: object, source: str) -> list[str]:
    if not isinstance(value, str):
        raise RequestError(f"{source} is not a string", code="CDG-R109")
    return device_names.words(value, source)
