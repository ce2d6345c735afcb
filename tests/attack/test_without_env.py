# SPDX-License-Identifier: Apache-2.0
"""A71 env-pipes: a spec without `env`, and an image whose variables name files that never end.

runc before 1.3 gives such a hook the image's environment, and starts it in the image's root.
"""

from __future__ import annotations

import os

import pytest

from tests.attack.runtimes import Bundle, Runtime
from tests.attack.victim import Victim
from tests.hook.conftest import HOOKS

PIPE = "TZ=:/proc/self/cwd/fifo"


@pytest.mark.engine
@pytest.mark.parametrize("variable", [PIPE, "TZ=:/proc/1/root/fifo", "TZ=fifo"])
def test_a_pipe_in_a_runtime(hostile: Victim, variable: str) -> None:
    """Whether or not the runtime hands on the image's environment, as runc before 1.3 does."""
    bundle = Bundle(hostile, Runtime("runc"))
    os.mkfifo(hostile.root / "fifo")
    program = hostile.folder / "bin/nvidia-cdi-hook"
    program.parent.mkdir()
    program.symlink_to(HOOKS / "nvidia-cdi-hook")
    bundle.hook["path"] = str(program)
    bundle.hook["timeout"] = 15
    del bundle.hook["env"]
    bundle.spec["process"]["env"] = ["PATH=/bin", variable]
    assert bundle.started("echo started") == "started\n"
    assert "libcuda.so.1" in hostile.cached()


def as_nvidia_hook(victim: Victim) -> Victim:
    """The hook under the name that the specs of others have."""
    victim.launcher = [str(HOOKS / "nvidia-cdi-hook")]
    return victim


@pytest.mark.parametrize("name", ["LD_BIND_NOW", "LOCPATH", "GCONV_PATH", "PYTHONPATH"])
def test_what_is_refused_is_refused_still(hostile: Victim, name: str) -> None:
    variables = {"PATH": "/bin", "HOME": "/root", "TZ": "x", name: "x"}
    attempt = as_nvidia_hook(hostile).attack(*Victim.FULL, environment=variables)
    assert f"'{name}' in the environment" in attempt.said
    attempt.harmless(1)


def test_the_words_of_the_environment_count(hostile: Victim) -> None:
    os.mkfifo(hostile.root / "fifo")
    variables = {"NVIDIA_CTK_DEBUG": "true", "HOME": "/root", "TZ": f":{hostile.root}/fifo"}
    attempt = (
        as_nvidia_hook(hostile).attack(*Victim.FULL, environment=variables).harmless(0, lines=99)
    )
    assert "libcuda.so.1" in attempt.said
