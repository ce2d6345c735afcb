# SPDX-License-Identifier: Apache-2.0
"""Reads the config file of NVIDIA's device plugin, ``version: v1``.

NVIDIA's plugin parses ``resources``, ``rename`` and ``devices`` and then ignores them; here they
have the meaning that their names say. The keys of gpu-feature-discovery are in the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cdi_base.findings import Finding
from cdi_gen.cdi.yamltext import YamlTextError, parse
from cdi_gen.kubernetes.settings.document import ConfigFileError, Table
from cdi_gen.kubernetes.settings.model import (
    ALL_DEVICES,
    ALLOCATION_POLICIES,
    ID_STRATEGIES,
    LABEL_DISCOVERY_STRATEGIES,
    LIST_STRATEGIES,
    MIG_STRATEGIES,
    Imex,
    ResourceRule,
    SharedResource,
    Sharing,
)
from cdi_gen.kubernetes.settings.names import resource_name

VERSION = "v1"

MAX_BYTES = 1 << 20

MAX_REPLICAS = 65536
"""The kubelet takes a list of 4 MiB, which is about as many devices."""

Flags = dict[str, object]
"""Values by the names of the fields of `Settings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """The content of a config file."""

    flags: Flags = field(default_factory=dict)
    """The flags that the file sets, by the names of the fields of `Settings`."""
    labels: Flags = field(default_factory=dict)
    """The flags of gpu-feature-discovery that the file sets, by the names of their options."""
    gpu_rules: tuple[ResourceRule, ...] = ()
    mig_rules: tuple[ResourceRule, ...] = ()
    sharing: Sharing = Sharing()
    imex: Imex = Imex()
    findings: tuple[Finding, ...] = ()


def parse_config_file(content: bytes, source: str) -> ConfigFile:
    """Return the content of a config file in YAML or JSON.

    Args:
        content: the file's content.
        source: the path of the file, for messages.

    Raises:
        ConfigFileError: the text is not YAML, has another version, or has an invalid value.
    """
    try:
        document, _ = parse(content.decode())
    except YamlTextError as error:
        place = f", {error.place}" if error.place else ""
        raise ConfigFileError(f"{source}{place}: {error.message}", subject=source) from error
    except UnicodeDecodeError as error:
        raise ConfigFileError(f"{source} is not UTF-8", subject=source) from error
    try:
        return _config_file(Table(document, ""), source)
    except ConfigFileError as error:
        raise ConfigFileError(
            f"{source}: {error.message}", hint=error.hint, subject=error.subject
        ) from error


def _config_file(root: Table, source: str) -> ConfigFile:
    version = root.text("version")
    if version and version != VERSION:
        raise ConfigFileError(f"version is {version!r}; it must be {VERSION}", subject="version")
    flags = root.table("flags")
    plugin, labels = flags.table("plugin"), flags.table("gfd")
    resources, sharing, imex = root.table("resources"), root.table("sharing"), root.table("imex")
    mps, time_slicing = sharing.table("mps"), sharing.table("timeSlicing")
    config_file = ConfigFile(
        flags=_set({**_common_flags(flags), **_plugin_flags(plugin)}),
        labels=_set(
            {**_label_flags(labels), "node_feature_api": flags.boolean("useNodeFeatureAPI")}
        ),
        gpu_rules=tuple(map(_rule, resources.tables("gpus"))),
        mig_rules=tuple(map(_rule, resources.tables("mig"))),
        sharing=_sharing(mps, "mps") or _sharing(time_slicing, "time-slicing") or Sharing(),
        imex=_imex(imex),
    )
    tables = (root, flags, plugin, labels, resources, sharing, mps, time_slicing, imex)
    findings = tuple(_unknown(tables, source))
    return ConfigFile(**{name: getattr(config_file, name) for name in _FIELDS}, findings=findings)


_FIELDS = ("flags", "labels", "gpu_rules", "mig_rules", "sharing", "imex")


def _set(flags: Flags) -> Flags:
    return {name: value for name, value in flags.items() if value is not None}


def _common_flags(table: Table) -> Flags:
    return {
        "mig_strategy": table.word("migStrategy", MIG_STRATEGIES),
        "fail_on_init_error": table.boolean("failOnInitError"),
        "mps_root": table.text("mpsRoot"),
        "driver_root": table.text("nvidiaDriverRoot"),
        "dev_root": table.text("nvidiaDevRoot"),
        "gdrcopy": table.boolean("gdrcopyEnabled"),
        "gds": table.boolean("gdsEnabled"),
        "mofed": table.boolean("mofedEnabled"),
        "discovery_strategy": table.word("deviceDiscoveryStrategy", LABEL_DISCOVERY_STRATEGIES),
    }


def _plugin_flags(table: Table) -> Flags:
    strategies = table.texts("deviceListStrategy")
    for strategy in strategies or ():
        if strategy not in LIST_STRATEGIES:
            known = ", ".join(LIST_STRATEGIES)
            raise table.fault("deviceListStrategy", f"is {strategy!r}; it must be one of {known}")
    return {
        "pass_device_specs": table.boolean("passDeviceSpecs"),
        "list_strategies": strategies,
        "id_strategy": table.word("deviceIDStrategy", ID_STRATEGIES),
        "cdi_annotation_prefix": table.text("cdiAnnotationPrefix"),
        "hook_path": table.text("nvidiaCTKPath"),
        "container_driver_root": table.text("containerDriverRoot"),
        "allocation_policy": table.word("sharedDevicesAllocationPolicy", ALLOCATION_POLICIES),
    }


def _label_flags(table: Table) -> Flags:
    return {
        "oneshot": table.boolean("oneshot"),
        "no_timestamp": table.boolean("noTimestamp"),
        "sleep_interval": table.text("sleepInterval"),
        "output_file": table.text("outputFile"),
        "machine_type_file": table.text("machineTypeFile"),
    }


def _rule(table: Table) -> ResourceRule:
    pattern, name = table.text("pattern"), table.text("name")
    if not pattern or not name:
        raise ConfigFileError(f"{table.path} needs pattern and name", subject=table.path)
    _refuse_unknown(table)
    return ResourceRule(pattern=pattern, name=resource_name(name))


def _sharing(table: Table, strategy: Literal["mps", "time-slicing"]) -> Sharing | None:
    """Return the sharing of ``mps`` or ``timeSlicing``; None if it shares nothing.

    NVIDIA's plugin prefers mps, too.
    """
    resources = table.tables("resources")
    fail = table.boolean("failRequestsGreaterThanOne")
    rename = table.boolean("renameByDefault")
    if table and not table.has("resources"):
        raise table.fault("resources", "is missing: nothing would be shared")
    if not resources:
        return None
    return Sharing(
        strategy=strategy,
        rename_by_default=rename or False,
        fail_requests_greater_than_one=(strategy == "mps") if fail is None else fail,
        resources=tuple(map(_shared_resource, resources)),
    )


def _shared_resource(table: Table) -> SharedResource:
    name, rename, replicas = table.text("name"), table.text("rename"), table.integer("replicas")
    if not name:
        raise table.fault("name", "is missing")
    if replicas is None or replicas < 1:
        raise table.fault("replicas", "must be 1 or more")
    if replicas > MAX_REPLICAS:
        raise table.fault("replicas", f"must be {MAX_REPLICAS} or less")
    shared = SharedResource(
        name=resource_name(name),
        rename=None if rename is None else resource_name(rename),
        devices=_devices(table),
        replicas=replicas,
    )
    _refuse_unknown(table)
    return shared


def _devices(table: Table) -> tuple[str, ...] | int | Literal["all"]:
    value = table.value("devices")
    if value is None or value == ALL_DEVICES:
        return ALL_DEVICES
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, list) and value:
        texts = [str(item) if type(item) is int else item for item in value]
        if all(isinstance(text, str) for text in texts):
            return tuple(map(str, texts))
    raise table.fault("devices", "must be all, a number, or a list of UUIDs and indices")


def _imex(table: Table) -> Imex:
    channels = table.integers("channelIDs") or ()
    if channels not in {(), (0,)}:
        raise table.fault("channelIDs", "must be [] or [0]")
    return Imex(channel_ids=channels, required=table.boolean("required") or False)


def _refuse_unknown(table: Table) -> None:
    for path in table.unused():
        raise ConfigFileError(f"{path} is not a key of the config file", subject=path)


def _unknown(tables: Sequence[Table], source: str) -> Iterable[Finding]:
    """Yield a warning for each unknown key: the file may be for a newer plugin."""
    places: dict[str, list[str]] = {}
    for table in tables:
        for key in table.known:
            places.setdefault(key.casefold(), []).append(table.place(key))
    for table in tables:
        for path in table.unused():
            known = places.get(path.rpartition(".")[2].casefold())
            yield Finding(
                "CDG-N101",
                "warning",
                f"{source}: {path} is not a known key and is ignored",
                subject=path,
                source=source,
                fix=f"Write it as {' or '.join(known)}." if known else "",
            )
