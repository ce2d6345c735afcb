# SPDX-License-Identifier: Apache-2.0
"""The named attacks, and where each is tested; which of them stand for each published weakness.

`test_cases.py` holds this table against the tests that are there, and against SECURITY.md.
"""

from __future__ import annotations

from typing import NamedTuple

HERE = "tests/attack/"


class Case(NamedTuple):
    """One attack.

    `where` is files whose tests name the case in their docstrings, or `file::test` of one that
    stands elsewhere.
    """

    number: str
    name: str
    where: tuple[str, ...]


INTERPRETER = HERE + "test_interpreter.py"
LINKS = HERE + "test_links.py"
MOUNTS = HERE + "test_mounts.py"
FILES = HERE + "test_files.py"
BOMBS = HERE + "test_bombs.py"
STATE = HERE + "test_stdin.py"
MEMORY = HERE + "test_memory.py"
LIMITS = HERE + "test_limits.py"
SPEC = HERE + "test_spec.py"
READING = HERE + "test_reading.py"
RUNTIME = HERE + "test_in_a_runtime.py"
RACES = HERE + "test_races.py"
WITHOUT_ENV = HERE + "test_without_env.py"
FAULTS = HERE + "test_faults.py"
ENGINES = HERE + "test_engine_configuration.py"
ENGINE_FILES = HERE + "test_engine_configuration_files.py"
ENGINE_FAULTS = HERE + "test_engine_configuration_faults.py"
REFUSED = "tests/runtime/test_resolution_refused.py::"
PRESTART = "tests/prestart/test_hostile_images.py::"
DRIVER_ROOT = "tests/host/test_hostile.py::"

CASES = (
    Case("A01", "env-ldpreload", (RUNTIME,)),
    Case("A02", "env-ldaudit-libpath", (RUNTIME, INTERPRETER)),
    Case("A04", "spec-env-nonempty", (SPEC,)),
    Case("A05", "cwd-import", (INTERPRETER,)),
    Case("A08", "image-binaries", (INTERPRETER,)),
    Case("A09", "image-ldconfig-config", (INTERPRETER,)),
    Case(
        "A10",
        "hook-path-trust",
        (
            "tests/cli/test_hook.py::test_what_others_could_change_is_refused",
            "tests/host/test_files.py::test_one_that_others_could_change_is_not",
            "tests/host/test_files.py::test_an_interpreter_of_the_hosts_own",
        ),
    ),
    Case("A11", "rootfs-is-host", (LINKS, PRESTART + "test_root_of_the_host_is_rejected")),
    Case("A12", "confd-abs-link", (LINKS, RUNTIME)),
    Case("A13", "confd-rel-link", (LINKS, RUNTIME)),
    Case(
        "A14",
        "every-parent-link",
        (
            LINKS,
            RUNTIME,
            PRESTART + "test_directory_that_is_a_link_out_of_the_root_resolves_inside",
        ),
    ),
    Case("A15", "magic-links", (LINKS,)),
    Case("A16", "link-arg-dots", (LINKS,)),
    Case("A17", "symlink-race", (RACES,)),
    Case("A18", "confd-race", (RACES,)),
    Case("A20", "cache-targets", (LINKS,)),
    Case("A21", "tmp-name-squat", (LINKS,)),
    Case(
        "A23",
        "output-symlink",
        (SPEC, "tests/cli/test_writing.py::test_a_link_is_replaced_and_not_followed"),
    ),
    Case("A24", "proc-fake", (MOUNTS, RUNTIME)),
    Case("A26", "mount-leak", (MOUNTS, RUNTIME)),
    Case(
        "A27",
        "compat-link-mount",
        (RUNTIME, PRESTART + "test_mount_point_that_is_a_link_out_of_the_root_resolves_inside"),
    ),
    Case(
        "A28",
        "driver-root-links",
        (
            DRIVER_ROOT + "test_links_stay_inside_of_the_root",
            DRIVER_ROOT + "test_links_to_the_password_file",
            SPEC,
        ),
    ),
    Case(
        "A29",
        "driver-root-names",
        (
            DRIVER_ROOT + "test_hostile_library_names",
            DRIVER_ROOT + "test_a_leading_dash_and_a_long_name",
            DRIVER_ROOT + "test_a_hostile_directory",
            DRIVER_ROOT + "test_hostile_firmware_names",
        ),
    ),
    Case(
        "A30",
        "dev-root-nodes",
        (
            DRIVER_ROOT + "test_another_kind_of_file",
            DRIVER_ROOT + "test_a_link_to_a_disk",
            DRIVER_ROOT + "test_the_kernels_memory_under_a_gpus_name",
            DRIVER_ROOT + "test_a_block_device_of_the_same_numbers",
        ),
    ),
    Case(
        "A31",
        "env-unprivileged",
        (
            "tests/runtime/test_shim_hostile.py::test_unprivileged_container_gets_nothing",
            REFUSED + "test_unprivileged_container_gets_nothing_if_not_accepted",
        ),
    ),
    Case("A33", "params-ro", (MOUNTS, RUNTIME)),
    Case("A34", "config-no-widen", (ENGINES,)),
    Case("A35", "fifo-conf", (FILES, RUNTIME)),
    Case("A37", "devnode-open", (FILES, RUNTIME)),
    Case("A38", "conf-bombs", (BOMBS,)),
    Case(
        "A39",
        "stdin-bombs",
        (STATE, "tests/hook/test_process.py::test_an_invalid_state_is_refused"),
    ),
    Case("A41", "dir-bombs", (BOMBS,)),
    Case("A42", "stderr-flood", (BOMBS,)),
    Case(
        "A44",
        "fd-hygiene",
        (LIMITS, "tests/hook/test_sandbox.py::test_descriptors_of_the_runtime"),
    ),
    Case("A45", "enospc", (LIMITS,)),
    Case("A46", "erofs", (LIMITS,)),
    Case(
        "A47",
        "kill-each-syscall",
        (FAULTS, ENGINE_FAULTS, "tests/cli/test_interrupted.py::test_killed_at_random_moments"),
    ),
    Case(
        "A48",
        "errno-each-syscall",
        (
            FAULTS,
            ENGINE_FAULTS,
            "tests/cli/test_interrupted.py::test_every_system_call_of_writing_may_fail",
        ),
    ),
    Case("A50", "openat2-eagain", (FAULTS,)),
    Case(
        "A51",
        "parallel-generate",
        (SPEC, "tests/cli/test_interrupted.py::test_two_writers_and_a_reader"),
    ),
    Case(
        "A52",
        "cdi-dirs-perms",
        (
            SPEC,
            "tests/unit/store/test_writing.py::test_a_spec_directory_that_others_can_write_to",
            "tests/unit/store/test_writing.py::test_a_link_of_another_user_is_refused",
        ),
    ),
    Case(
        "A53",
        "cdi-conflict",
        (
            "tests/unit/store/test_registry.py::test_two_files_of_one_directory_cancel_each_other_out",
        ),
    ),
    Case("A54", "daemon-json-keep", (ENGINES, ENGINE_FILES)),
    Case("A56", "toml-keep", (ENGINES,)),
    Case("A59", "userns-owner", (RUNTIME, "tests/hook/test_runtimes.py::test_a_user_namespace")),
    Case("A60", "unknown-hook", (LIMITS,)),
    Case(
        "A61",
        "umask-modes",
        (
            LIMITS,
            "tests/unit/store/test_writing.py::test_a_file_is_readable_by_all_whatever_the_umask",
        ),
    ),
    Case("A62", "signals", (LIMITS, FAULTS)),
    Case("A63", "content-copied", (READING,)),
    Case("A64", "kernel-file-systems", (READING,)),
    Case("A65", "preferred-links", (LINKS,)),
    Case("A66", "memory-sums", (MEMORY,)),
    Case("A67", "read-only-roots", (LIMITS, RUNTIME)),
    Case(
        "A70",
        "env-bombs",
        (
            "tests/runtime/test_shim_bounds.py::test_shim_stays_within_its_bounds",
            "tests/runtime/test_shim_bounds.py::test_hook_stays_within_its_bounds",
        ),
    ),
    Case("A71", "env-pipes", (WITHOUT_ENV,)),
    Case("A72", "prestart-pivoted", ("tests/prestart/test_namespaces.py",)),
)

CVES: dict[str, tuple[str, ...]] = {
    "CVE-2024-0132": ("A27",),
    "CVE-2024-0133": ("A14",),
    "CVE-2024-0134": ("A14", "A16"),
    "CVE-2024-0135": ("A08", "A44"),
    "CVE-2024-0136": ("A09",),
    "CVE-2024-0137": ("A09",),
    "CVE-2025-23266": ("A01", "A02", "A04"),
    "CVE-2025-23267": ("A12", "A13", "A20"),
    "CVE-2025-23359": ("A17", "A27"),
    "CVE-2026-24260": ("A17", "A18"),
}
"""NVIDIA's own, for its container toolkit and what is in it; SECURITY.md has the same table."""
