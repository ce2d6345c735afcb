# SPDX-License-Identifier: Apache-2.0
"""O-CTRL: the attacks are real. A hook written without care is harmed by each, and the oracle sees it.

The very tests of the suite are run on `naive_hook.py`; each must end in the oracle that it is about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.attack import test_bombs as bombs
from tests.attack import test_files as files
from tests.attack import test_interpreter as interpreter
from tests.attack import test_limits as limits
from tests.attack import test_links as links
from tests.attack import test_memory as memory
from tests.attack import test_mounts as mounts
from tests.attack import test_reading as reading
from tests.attack import test_stdin as state
from tests.attack.oracles import HarmError
from tests.attack.victim import Victim
from tests.hook.conftest import ENVIRONMENT

Case = tuple[Callable[..., None], dict[str, Any]]

NOTICED: dict[str, list[Case]] = {
    "O-SENT": [
        (links.test_the_drop_in_folder_is_a_link_out, {"way": "absolute"}),
        (links.test_the_drop_in_folder_is_a_link_out, {"way": "relative"}),
        (links.test_a_folder_above_a_link_is_a_link_out, {"depth": 1, "way": "absolute"}),
        (links.test_a_folder_above_a_link_is_a_link_out, {"depth": 3, "way": "relative"}),
        *(
            (links.test_a_folder_is_a_link_through_proc, {"place": "etc", "way": way})
            for way in ("magic", "descriptor", "dev fd")
        ),
        (links.test_a_file_of_ours_is_a_link_out, {"name": links.WRITTEN[1], "way": "absolute"}),
        (links.test_a_file_of_ours_is_a_name_of_the_hosts_file, {"name": links.WRITTEN[1]}),
        (
            links.test_the_folder_of_links_is_a_link_out,
            {"place": links.OF_LINKS[0], "way": "absolute"},
        ),
        (links.test_the_folder_of_links_is_a_volume, {"place": links.OF_LINKS[1]}),
        (links.test_the_root_is_the_hosts, {"spelling": "//", "by": "state"}),
        (links.test_the_root_is_the_hosts, {"spelling": "link", "by": "config"}),
        (
            links.test_a_link_argument,
            {"name": "create-symlinks", "argument": next(iter(links.LINK_ARGUMENTS))},
        ),
        (interpreter.test_modules_in_the_folder_it_is_started_in, {}),
        (interpreter.test_an_interpreter_that_is_told_of_the_image, {"name": "PYTHONPATH"}),
        (limits.test_descriptors_that_leak_into_it, {"way": "O_RDWR", "ldconfig": False}),
        (mounts.test_a_volume_is_not_ours, {"place": "etc", "left_out": 3, "kind": "bind"}),
        (
            mounts.test_a_file_that_is_a_mount,
            {"name": "etc/ld.so.conf.d/00-cdi-gen.conf"},
        ),
    ],
    "O-RO": [
        (links.test_a_folder_is_a_link_out, {"place": "etc", "way": "absolute"}),
        (links.test_a_folder_is_a_link_out, {"place": "opt/odd", "way": "relative"}),
    ],
    "O-EXEC": [
        (interpreter.test_programs_of_the_image, {"path": ENVIRONMENT["PATH"]}),
        (interpreter.test_one_run_with_everything_audited, {}),
    ],
    "O-OPEN": [
        (
            files.test_no_node_of_the_image_is_opened,
            {"name": files.CONFIGURATION[1], "kind": "link to a device", "node": "null"},
        ),
    ],
    "O-MNT": [
        (mounts.test_a_proc_that_is_none, {"kind": "folder"}),
        (mounts.test_a_proc_that_is_none, {"kind": "tmpfs"}),
    ],
    "O-TIME": [
        (links.test_a_file_of_ours_is_something_else, {"name": links.WRITTEN[1], "kind": "pipe"}),
        (
            files.test_configuration_that_is_no_file,
            {"name": files.CONFIGURATION[0], "kind": "link to a pipe"},
        ),
        (files.test_other_files_that_are_none, {"name": files.LIBRARIES[1], "kind": "pipe"}),
    ],
    "O-MEM": [
        (state.test_a_state_without_end, {"source": "/dev/zero"}),
        (memory.test_a_sum, {"make": memory.link_texts}),
    ],
    "O-OUT": [
        (bombs.test_libraries_that_are_none, {"size": bombs.SHORT}),
        (bombs.test_a_configuration, {"make": bombs.CONFIGURATIONS[0], "size": bombs.SHORT}),
        (state.test_a_state, {"name": "nested"}),
    ],
    "O-COPY": [
        *(
            (reading.test_a_secret_of_a_volume, {"name": name, "way": way})
            for name in (reading.MUSL_PATH, reading.CONF, reading.INCLUDED, reading.LIBRARY)
            for way in reading.WAYS[:3]
        ),
        (
            reading.test_what_procfs_tells_root,
            {"name": reading.MUSL_PATH, "what": "self/mountinfo"},
        ),
        (reading.test_a_secret_of_the_image, {}),
    ],
    "O-READ": [
        *(
            (reading.test_a_file_of_the_kernels, {"name": name, "kind": kind})
            for name in (reading.CONF, reading.INCLUDED, reading.LIBRARY)
            for kind in ("sysfs", "tracefs", "cgroup2")
        ),
        (
            reading.test_a_line_that_names_the_kernels,
            {"line": "include /kernel/{}", "what": "self/mountinfo"},
        ),
    ],
    "O-DIFF": [(files.test_libraries_of_the_image_get_no_links, {})],
}


def named(case: Case) -> str:
    function, arguments = case
    values = [getattr(value, "__name__", str(value)) for value in arguments.values()]
    words = [function.__name__.removeprefix("test_"), *values]
    return "-".join(words)[:80]


@pytest.mark.parametrize(
    ("oracle", "case"),
    [(oracle, case) for oracle, cases in NOTICED.items() for case in cases],
    ids=lambda value: value if isinstance(value, str) else named(value),
)
def test_a_naive_hook_is_harmed(hostile: Victim, library: object, oracle: str, case: Case) -> None:
    function, arguments = case
    hostile.naive()
    if oracle != "O-TIME":
        hostile.patience = 30
    given = {"hostile": hostile, "both": hostile, "library": library, **arguments}
    asked = function.__code__.co_varnames[: function.__code__.co_argcount]
    with pytest.raises(HarmError) as noticed:
        function(**{name: given[name] for name in asked})
    assert noticed.value.oracle == oracle


def test_a_naive_hook_works_on_a_friendly_image(hostile: Victim) -> None:
    """It is a hook: what harms it is the attack, and not that it does nothing."""
    hostile.naive()
    assert hostile.attack(*Victim.FULL).status == 0
    assert (hostile.root / "opt/odd/libcuda.so.1").is_symlink()
    assert hostile.cached()["libcuda.so.1"] == "/opt/odd/libcuda.so.1"


def test_an_oracle_sees_a_program_that_stays(hostile: Victim) -> None:
    """O-PROC itself: a child that takes another session and closes everything is found."""
    hostile.launcher = ["sh", "-c", "setsid sleep 30 <&- >&- 2>&- & exit 0"]
    with pytest.raises(HarmError, match=r"O-PROC.*sleep 30"):
        hostile.attack().harmless(0)


def test_an_oracle_sees_memory(hostile: Victim) -> None:
    """O-MEM itself: 200 MiB in a grandchild."""
    hostile.launcher = ["/bin/sh", "-c", "python3 -c \"b'x' * (200 << 20)\"; exit 0"]
    with pytest.raises(HarmError, match="O-MEM"):
        hostile.attack(measured=True, environment={"PATH": "/usr/bin:/bin"}).harmless(0)


def test_an_oracle_sees_a_mount_that_leaks(hostile: Victim) -> None:
    """O-MNT itself."""
    hostile.watch_mounts()
    hostile.launcher = ["mount", "-t", "tmpfs", "none", f"{hostile.root}/tmp"]
    with pytest.raises(HarmError, match="O-MNT"):
        hostile.attack(environment={"PATH": "/usr/bin:/bin"}).harmless(0)
