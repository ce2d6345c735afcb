# SPDX-License-Identifier: Apache-2.0
"""The specs that containers are started with: ours without and with the hook, and the peer's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NamedTuple

from cdi_gen.cdi.wire import dump
from cdi_gen.generate import DEFAULTS, generate
from cdi_gen.generate.options import Options
from cdi_gen.host import Where, gather
from cdi_gen.inventory import HookProgram
from cdi_gen.paths import HostPath
from tests.bench import peer
from tests.fakehost.hosts import FakeHost

HOST, DEVICE = "550-1gpu", "0"
HOST_OF_8, ALL = "550-8gpu", "all"
"""Where nvidia-ctk starts a process for each GPU too."""

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
    """What a hook makes useful: the spec with the hook, less the hook."""
    peer: Document | None
    peer_unhooked: Document | None


def of(host: FakeHost) -> Specs:
    """The specs of a fake host, as they would be written on it."""
    inventory = gather(Where(host_root=str(host.root)))
    inventory = replace(inventory, hook=HookProgram(path=HostPath(OUR_HOOK_PATH)))

    def ours(options: Options) -> Document:
        document: Document = json.loads(dump(generate(inventory, options)))
        return document

    theirs = peer.program()
    hooked = ours(DEFAULTS)
    peers = peer.spec(theirs, host) if theirs and peer.hook_program() else None
    return Specs(
        hookless=ours(Options(hooks=False)),
        hooked=hooked,
        links_only=ours(Options(disabled_hooks=("update-ldcache",))),
        ldconfig=ours(Options(ldconfig_path="/sbin/ldconfig")),
        unhooked=without_hooks(hooked),
        peer=peers,
        peer_unhooked=without_hooks(peers) if peers else None,
    )


def without_hooks(spec: Document) -> Document:
    """A spec less its hooks: nodes and mounts alone."""
    spec = json.loads(json.dumps(spec))
    for each in (spec, *spec["devices"]):
        each.get("containerEdits", {}).pop("hooks", None)
    return spec


def edits(spec: Document, device: str) -> list[Document]:
    """The container edits for a device: those of the spec, then its own."""
    (own,) = (each["containerEdits"] for each in spec["devices"] if each["name"] == device)
    return [spec.get("containerEdits", {}), own]


def hooks(spec: Document, device: str) -> list[Document]:
    """The hooks that run for a device, in order."""
    return [hook for each in edits(spec, device) for hook in each.get("hooks", [])]


def apply(config: Document, spec: Document, device: str) -> Document:
    """An OCI runtime configuration with a device in it, as an engine would have it.

    Only what these specs use: environment, mounts, hooks and numbered character devices.
    """
    config = json.loads(json.dumps(config))
    linux = config["linux"]
    for each in edits(spec, device):
        config["process"]["env"] += each.get("env", [])
        for mount in each.get("mounts", []):
            config["mounts"].append(
                {
                    "source": mount["hostPath"],
                    "destination": mount["containerPath"],
                    "options": mount["options"],
                    "type": "bind",
                }
            )
        for hook in each.get("hooks", []):
            told = {name: value for name, value in hook.items() if name != "hookName"}
            config.setdefault("hooks", {}).setdefault(hook["hookName"], []).append(told)
        for node in each.get("deviceNodes", []):
            number = {"type": "c", "major": node["major"], "minor": node.get("minor", 0)}
            linux.setdefault("devices", []).append(
                {"path": node["path"], "fileMode": node["fileMode"], **number}
            )
            linux["resources"]["devices"].append(
                {"allow": True, "access": node["permissions"], **number}
            )
    return config
