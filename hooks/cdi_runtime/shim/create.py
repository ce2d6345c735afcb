# SPDX-License-Identifier: Apache-2.0
"""What happens to a bundle before a low-level runtime makes a container of it."""

from __future__ import annotations

from cdi_base import PRESTART_HOOK, nvidia
from cdi_base.cdi import injection
from cdi_base.errors import HookError
from cdi_base.findings import Finding
from cdi_runtime import bundle
from cdi_runtime.shim import log
from cdi_runtime.specs import resolution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_runtime.config_toml.settings import Configuration
    from cdi_runtime.shim.command_line import Invocation

    Document = dict[str, object]

PRESTART = frozenset((nvidia.PRESTART_HOOK, nvidia.OLD_PRESTART_HOOK, PRESTART_HOOK))
"""Programs that would put the same GPUs into the container once more: dockerd adds the first of
them for `--gpus`."""


def edit(asked: Invocation, settings: Configuration) -> None:
    """Apply what the container asks for; a bundle that asks for nothing is not written to.

    Raises:
        HookError: the container cannot have it.
    """
    journal = log.Journal(settings)
    for warning in settings.warnings:
        journal.tell(Finding("CDG-C104", "warning", warning, subject=settings.source or ""))
    try:
        found = _opened(asked)
        edits = resolution.edits(found.config, settings, annotations=True, tell=journal.tell)
        if edits is None:
            return
        remove_prestart_hooks(found.config)
        injection.apply(found.config, edits)
        found.replace()
    except HookError as error:
        journal.tell(Finding(error.code, "error", str(error)))
        raise


def _opened(asked: Invocation) -> bundle.Bundle:
    if not asked.config:
        return bundle.Bundle(asked.bundle or ".")
    # crun: relative to where it was started, not to the bundle.
    directory, _, name = asked.config.rpartition("/")
    return bundle.Bundle(directory or ("/" if asked.config.startswith("/") else "."), name)


def remove_prestart_hooks(config: Document) -> None:
    """Take out the prestart hooks that inject GPUs by themselves."""
    hooks = config.get("hooks")
    prestart = hooks.get("prestart") if isinstance(hooks, dict) else None
    if not isinstance(hooks, dict) or not isinstance(prestart, list):
        return
    kept = [each for each in prestart if not _injects_gpus(each)]
    if kept:
        hooks["prestart"] = kept
    elif prestart:
        del hooks["prestart"]


def _injects_gpus(hook: object) -> bool:
    path = hook.get("path") if isinstance(hook, dict) else None
    return isinstance(path, str) and path.rpartition("/")[2] in PRESTART
