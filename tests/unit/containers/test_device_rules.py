# SPDX-License-Identifier: Apache-2.0
"""Device rules of both versions of control groups, together."""

from __future__ import annotations

import pytest

from cdi_gen.containers.device_rules import UNLISTED, Device, Rules
from tests.unit.containers.test_device_program import NO, YES, line

GPU = Device("c", 195, 0)
UNKNOWN_PROGRAM = line(0x85, value=5) + YES


@pytest.mark.parametrize(
    ("rules", "access"),
    [
        (Rules(None, ()), "unrestricted"),
        (Rules(("a *:* rwm",), ()), "allowed"),
        (Rules(("c 195:0 rw",), ()), "allowed"),
        (Rules(("c 195:* rwm",), ()), "allowed"),
        (Rules(("c *:* m", "b *:* m"), ()), "refused"),
        (Rules(("c 195:0 r",), ()), "refused"),
        # The kernel takes the access from one line.
        (Rules(("c 195:0 r", "c 195:* w"), ()), "refused"),
        (Rules(("b 195:0 rw", "c 195:1 rw", "c 5:0 rwm"), ()), "refused"),
        (Rules((), ()), "refused"),
        (Rules(None, (YES,)), "allowed"),
        (Rules(None, (YES, NO)), "refused"),
        (Rules(("a *:* rwm",), (NO,)), "refused"),
        (Rules(("c 5:0 rwm",), (YES,)), "refused"),
        (Rules(None, (UNKNOWN_PROGRAM,)), "unknown"),
        (Rules(None, (), "not permitted"), "unknown"),
        (Rules(("c 195:0 rw",), (), "not permitted"), "unknown"),
        (Rules(("c 5:0 rw",), (), "not permitted"), "refused"),
    ],
)
def test_access(rules: Rules, access: str) -> None:
    assert rules.access(GPU) == access


def test_privileged_is_told_from_a_long_list() -> None:
    assert Rules(("a *:* rwm",), ()).access(UNLISTED) == "allowed"
    assert Rules(("c 195:* rwm", "c 1:3 rwm"), ()).access(UNLISTED) == "refused"
