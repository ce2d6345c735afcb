# SPDX-License-Identifier: Apache-2.0
"""The hook's command line: what the spec tells the program that engines run.

cdi-gen's own program does all steps in one process. A program named like nvidia-ctk's is given
nvidia-ctk's command lines, one process a step.
"""

from __future__ import annotations

from cdi_gen.cdi.model import Hook
from cdi_gen.generate.driver import Link
from cdi_gen.generate.options import Options
from cdi_gen.paths import base_name

STAGE = "createContainer"
ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8")
"""Never empty: runc before 1.3 hands the image's environment, LD_PRELOAD included, to a hook that
has none (CVE-2025-23266)."""
TIMEOUT_SECONDS = 30
PEERS = {"nvidia-cdi-hook": (), "nvidia-ctk": ("hook",)}


def hooks(
    path: str, options: Options, *, links: list[Link], folders: list[str], driver_version: str
) -> tuple[Hook, ...]:
    """The hooks of a spec for the program at ``path``; none where all steps are disabled."""
    name = base_name(path)
    link_words = [word for text, link in links for word in ("--link", f"{text}::{link}")]
    folder_words = [word for folder in folders for word in ("--folder", folder)]
    if options.ldconfig_path:
        folder_words += ["--ldconfig-path", options.ldconfig_path]
    if name in PEERS:
        commands = _peer_commands(options, link_words, folder_words, driver_version)
        return tuple(_hook(path, (name, *PEERS[name], *command)) for command in commands)
    words = link_words if options.runs("create-symlinks") else []
    if options.runs("update-ldcache"):
        words = words + folder_words
    return (_hook(path, (name, "create-container", *words)),) if words else ()


def _peer_commands(
    options: Options, link_words: list[str], folder_words: list[str], driver_version: str
) -> list[list[str]]:
    commands = [
        ["create-symlinks", *link_words],
        ["enable-cuda-compat", f"--host-driver-version={driver_version}"],
        ["update-ldcache", *folder_words],
        ["disable-device-node-modification"],
        ["update-application-profile"],
    ]
    return [command for command in commands if options.runs(command[0])]


def _hook(path: str, args: tuple[str, ...]) -> Hook:
    return Hook(hook_name=STAGE, path=path, args=args, env=ENVIRONMENT, timeout=TIMEOUT_SECONDS)
