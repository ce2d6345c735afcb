# SPDX-License-Identifier: Apache-2.0
"""Checks and converts the options of a spec: hooks, engine, capabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_gen.cli.host_options import FEATURE_FLAGS
from cdi_gen.errors import UsageError
from cdi_gen.generate.options import ALL, HOOKS, NONE

if TYPE_CHECKING:
    from cdi_gen.cdi.consumers import Consumer


def check_flags(flags: tuple[str, ...]) -> None:
    """Reject an unknown value of ``--feature-flag``.

    Raises:
        UsageError: nvidia-ctk has no such flag.
    """
    for flag in flags:
        if flag not in FEATURE_FLAGS:
            raise UsageError(
                f"unknown feature flag: {flag}",
                hint=f"the feature flags are {', '.join(FEATURE_FLAGS)}",
                code="CDG-U003",
                subject="--feature-flag",
            )


def check_hooks(disabled: tuple[str, ...], enabled: tuple[str, ...]) -> None:
    """Reject unknown values of ``--disable-hook`` and ``--enable-hook``.

    Raises:
        UsageError: a value is not the name of a step.
    """
    for option, hook in (
        *(("--disable-hook", hook) for hook in disabled),
        *(("--enable-hook", hook) for hook in enabled),
    ):
        if hook not in (*HOOKS, ALL):
            raise UsageError(
                f"{option}: unknown hook: {hook}",
                hint=f"the hooks are {', '.join(HOOKS)}; all stands for every hook",
                code="CDG-U003",
                subject=hook,
            )
    if ALL in enabled:
        raise UsageError(
            "--enable-hook does not accept 'all'; give the names of the hooks",
            hint=f"the hooks are {', '.join(HOOKS)}",
            code="CDG-U003",
            subject="--enable-hook",
        )


def consumer(name: str | None) -> Consumer | None:
    """Return the CDI support of the engine in ``--for``."""
    if not name:
        return None
    from cdi_gen.cdi import consumers  # noqa: PLC0415

    try:
        return consumers.find(name)
    except consumers.UnknownConsumerError as error:
        raise UsageError(f"--for: {error}", code="CDG-U003", subject="--for") from error


def capabilities(text: str) -> tuple[str, ...]:
    """Return the names in ``--capabilities``; empty for ``none``.

    A spec without capabilities is combined with a spec of ``--mode cap``.
    """
    names = tuple(name for part in text.split(",") if (name := part.strip()))
    if names == (NONE,):
        return ()
    if not names:
        raise UsageError(
            "--capabilities is empty: a container would get no file of the driver",
            hint="leave out the option for all capabilities; if intended: --capabilities none",
            code="CDG-U006",
            subject="--capabilities",
        )
    return names
