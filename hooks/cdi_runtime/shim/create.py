# SPDX-License-Identifier: Apache-2.0
"""Edits a bundle before the low-level runtime creates the container."""

from __future__ import annotations

from cdi_base import PRESTART_HOOK, nvidia
from cdi_base.cdi import injection
from cdi_base.errors import HookError
from cdi_base.findings import Finding
from cdi_runtime.bundle import Bundle
from cdi_runtime.shim.log import LogFile
from cdi_runtime.specs import resolution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_runtime.config_toml.settings import Configuration
    from cdi_runtime.shim.command_line import Invocation

    Document = dict[str, object]

GPU_HOOKS = frozenset((nvidia.PRESTART_HOOK, nvidia.OLD_PRESTART_HOOK, PRESTART_HOOK))
"""Prestart hooks that would inject the same GPUs a second time. dockerd adds the first of them for
`--gpus`."""


def edit(invocation: Invocation, settings: Configuration) -> None:
    """Apply the container's request to its bundle; a bundle without a request is not written to.

    Raises:
        HookError: the request is invalid, or cannot be satisfied on this host.
    """
    log_file = LogFile(settings)
    for warning in settings.warnings:
        log_file.write(Finding("CDG-C104", "warning", warning, subject=settings.source or ""))
    try:
        bundle = _open_bundle(invocation)
        edits = resolution.edits(bundle.config, settings, annotations=True, report=log_file.write)
        if edits is None:
            return
        remove_gpu_hooks(bundle.config)
        injection.apply(bundle.config, edits)
        bundle.replace()
    except HookError as error:
        log_file.write(Finding(error.code, "error", str(error)))
        raise


def _open_bundle(invocation: Invocation) -> Bundle:
    if not invocation.config:
        return Bundle(invocation.bundle or ".")
    # crun resolves `--config` from the current directory, not from the bundle.
    directory, _, name = invocation.config.rpartition("/")
    return Bundle(directory or ("/" if invocation.config.startswith("/") else "."), name)


def remove_gpu_hooks(config: Document) -> None:
    """Remove the prestart hooks that inject GPUs themselves."""
    hooks = config.get("hooks")
    prestart = hooks.get("prestart") if isinstance(hooks, dict) else None
    if not isinstance(hooks, dict) or not isinstance(prestart, list):
        return
    other_hooks = [hook for hook in prestart if not _injects_gpus(hook)]
    if other_hooks:
        hooks["prestart"] = other_hooks
    elif prestart:
        del hooks["prestart"]


def _injects_gpus(hook: object) -> bool:
    path = hook.get("path") if isinstance(hook, dict) else None
    return isinstance(path, str) and path.rpartition("/")[2] in GPU_HOOKS
