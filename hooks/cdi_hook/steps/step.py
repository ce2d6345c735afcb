# SPDX-License-Identifier: Apache-2.0
"""A step: one thing that is done to a container's root. A hook is one step or several in a row."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any  # noqa: TID251  (never imported when it runs)

    from cdi_base.rootfs.rootfs import RootFs
    from cdi_hook.arguments import Options


class Step:
    """What a module of a step offers to the command line.

    `prepare` makes the options a plan and raises UsageError; nothing has been touched by then.
    A plan that is empty is not run. `run` gets the plan and the deadline; doing it twice changes
    nothing. Its `OSError` is a line and exit 1, but EROFS, EXDEV and EBUSY: a read-only root and a
    volume are an operator's wish, so the step is left out with a line.

    A step that takes no option, or whose options are other steps' too, has the switch `--NAME`
    where several steps share a command line.
    """

    __slots__ = ("name", "options", "prepare", "run", "switches")

    def __init__(
        self,
        name: str,
        options: tuple[str, ...],
        prepare: Callable[[Options], Any],
        run: Callable[[RootFs, Any, float], None],
        *,
        switch: bool = False,
    ) -> None:
        self.name = name
        self.options = options
        self.switches = (f"--{name}",) if switch or not options else ()
        self.prepare = prepare
        self.run = run
