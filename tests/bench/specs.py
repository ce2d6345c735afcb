# SPDX-License-Identifier: Apache-2.0
"""The specs that containers are started with: ours without and with the hook, and nvidia-ctk's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NamedTuple

from cdi_gen.cdi.wire import dump
from cdi_gen.generate import DEFAULTS, generate
from cdi_gen.generate.options import TREE, Options
from cdi_gen.host import Where, gather
from cdi_gen.inventory import HookProgram, Inventory
from cdi_gen.paths import HostPath
from tests.bench import nvidia_ctk
from tests.fakehost.hosts import FakeHost

HOST, DEVICE = "550-1gpu", "0"
HOST_OF_8, ALL = "550-8gpu", "all"
"""With all GPUs of this host, nvidia-ctk's spec starts a hook process for each GPU as well."""

OUR_HOOK_PATH = "/usr/libexec/cdi-gen/cdi-gen-hook"

Document = dict[str, Any]


class Specs(NamedTuple):
    """Documents of specs for one host."""

    hookless: Document
    hooked: Document
    links_only: Document
    """With the hook, but without its step for the loader's cache."""
    ldconfig: Document
    """With the hook, and the host's ldconfig in place of the hook's own writer."""
    unhooked: Document
    """The document ``hooked`` with the hooks removed: its nodes and mounts alone."""
    tree: Document
    """With the hook, on the driver tree."""
    tree_hookless: Document
    nvidia: Document | None
    nvidia_unhooked: Document | None


def inventory(host: FakeHost) -> Inventory:
    """The inventory of a fake host on which our hook is installed."""
    gathered = gather(Where(host_root=str(host.root)))
    return replace(gathered, hook=HookProgram(path=HostPath(OUR_HOOK_PATH)))


def of(host: FakeHost) -> Specs:
    """The specs of a fake host, as they would be written on it."""
    host_inventory = inventory(host)

    def ours(options: Options) -> Document:
        document: Document = json.loads(dump(generate(host_inventory, options)))
        return document

    program = nvidia_ctk.program()
    hooked = ours(DEFAULTS)
    nvidia = nvidia_ctk.spec(program, host) if program and nvidia_ctk.hook_program() else None
    return Specs(
        hookless=ours(Options(hooks=False)),
        hooked=hooked,
        links_only=ours(Options(disabled_hooks=("update-ldcache",))),
        ldconfig=ours(Options(ldconfig_path="/sbin/ldconfig")),
        unhooked=without_hooks(hooked),
        tree=ours(Options(form=TREE)),
        tree_hookless=ours(Options(form=TREE, hooks=False)),
        nvidia=nvidia,
        nvidia_unhooked=without_hooks(nvidia) if nvidia else None,
    )


def without_hooks(spec: Document) -> Document:
    """A copy of a spec without its hooks: nodes and mounts alone."""
    spec = json.loads(json.dumps(spec))
    for owner in (spec, *spec["devices"]):
        owner.get("containerEdits", {}).pop("hooks", None)
    return spec


def edits(spec: Document, device: str) -> list[Document]:
    """The container edits for a device: those of the spec, then its own."""
    (device_edits,) = (
        entry["containerEdits"] for entry in spec["devices"] if entry["name"] == device
    )
    return [spec.get("containerEdits", {}), device_edits]


def hooks(spec: Document, device: str) -> list[Document]:
    """The hooks that run for a device, in order."""
    return [hook for part in edits(spec, device) for hook in part.get("hooks", [])]


def apply(config: Document, spec: Document, device: str) -> Document:
    """An OCI runtime configuration with a device injected, as an engine does it.

    Supports only what these specs use: environment, mounts, hooks and numbered character devices.
    """
    config = json.loads(json.dumps(config))
    linux = config["linux"]
    for part in edits(spec, device):
        config["process"]["env"] += part.get("env", [])
        for mount in part.get("mounts", []):
            config["mounts"].append(
                {
                    "source": mount["hostPath"],
                    "destination": mount["containerPath"],
                    "options": mount["options"],
                    "type": "bind",
                }
            )
        for hook in part.get("hooks", []):
            oci_hook = {name: value for name, value in hook.items() if name != "hookName"}
            config.setdefault("hooks", {}).setdefault(hook["hookName"], []).append(oci_hook)
        for node in part.get("deviceNodes", []):
            number = {"type": "c", "major": node["major"], "minor": node.get("minor", 0)}
            linux.setdefault("devices", []).append(
                {"path": node["path"], "fileMode": node["fileMode"], **number}
            )
            linux["resources"]["devices"].append(
                {"allow": True, "access": node["permissions"], **number}
            )
    return config
