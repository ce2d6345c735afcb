# SPDX-License-Identifier: Apache-2.0
"""Which tests a mutant of a module has to pass."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

Suite = tuple[str, ...]
"""Arguments of pytest."""

_ROOT_FILE_SYSTEM: tuple[Suite, ...] = (
    (
        *("tests/hook/test_resolve.py", "tests/hook/test_rootfs.py"),
        *("tests/hook/test_rootfs_reading.py", "tests/hook/test_rootfs_mounts.py"),
    ),
    ("tests/property/test_hook.py", "-k", "TestRoot"),
    ("tests/hook/test_symlinks.py",),
    ("tests/attack/test_links.py", "tests/attack/test_files.py", "tests/hook/test_ldcache.py"),
    ("tests/attack/test_races.py", "-k", "not naive and not trusts"),
    ("tests/attack/test_faults.py",),
)

_GENERATE: tuple[Suite, ...] = (
    ("tests/golden", "tests/unit/generate", "tests/unit/inventory"),
    ("tests/property/test_generate.py",),
    ("tests/cli",),
)

SUITES: dict[str, tuple[Suite, ...]] = {
    "hooks/cdi_base/": (
        ("tests/unit/base",),
        ("tests/unit", "tests/runtime"),
        ("tests/hook",),
        ("tests/cli",),
    ),
    "hooks/cdi_base/cdi/": (
        ("tests/unit/cdi", "tests/golden"),
        ("tests/property/test_cdi.py", "tests/property/test_inject.py"),
        ("tests/runtime",),
    ),
    "hooks/cdi_base/elf.py": (("tests/hook/test_elf.py", "tests/unit/host"), ("tests/host",)),
    "hooks/cdi_base/files.py": (("tests/unit/base/test_files.py",), *_ROOT_FILE_SYSTEM),
    "hooks/cdi_base/requirement.py": (("tests/hook/test_requirement.py",), ("tests/property",)),
    "hooks/cdi_base/rootfs/": _ROOT_FILE_SYSTEM,
    "hooks/cdi_base/toml.py": (("tests/runtime/test_toml.py",), ("tests/runtime",)),
    "hooks/cdi_hook/": (("tests/hook",), ("tests/attack",)),
    "hooks/cdi_runtime/": (("tests/runtime",), ("tests/property",), ("tests/prestart",)),
    "cdi_gen/": (("tests/unit", "tests/golden"), ("tests/cli",), ("tests/host",)),
    "cdi_gen/cdi/": (
        ("tests/unit/cdi", "tests/golden"),
        ("tests/property/test_cdi.py", "tests/property/test_inject.py"),
        ("tests/cli",),
    ),
    "cdi_gen/engines/": (
        ("tests/unit/engines",),
        ("tests/property/test_engines.py",),
        ("tests/cli",),
    ),
    "cdi_gen/generate/": _GENERATE,
    "cdi_gen/host/": (("tests/unit/host",), ("tests/host",)),
    "cdi_gen/inventory/": _GENERATE,
    "cdi_gen/diff/": (("tests/unit/diff",), ("tests/cli/test_refresh.py",)),
    "cdi_gen/refresh/": (
        ("tests/unit/refresh", "tests/cli/test_refresh.py"),
        ("tests/refresh",),
    ),
    "cdi_gen/store/": (("tests/unit/store",), ("tests/cli",)),
}
"""By the beginning of the module's path. Quick suites first: the first that fails kills a mutant."""


def suites_of(module: str) -> tuple[Suite, ...]:
    """Return the tests that are named after a module, and the suites of its package.

    A package's suites are those of the longest beginning of the module's path.
    """
    named = sorted((REPOSITORY / "tests").rglob(f"test_{Path(module).stem}.py"))
    own = tuple(str(path.relative_to(REPOSITORY)) for path in named)
    of_package = SUITES[max((path for path in SUITES if module.startswith(path)), key=len)]
    return (own, *of_package) if own else of_package
