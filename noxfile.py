# SPDX-License-Identifier: Apache-2.0
"""Tests on every supported Python, and with the dependencies that distributions package.

    nox -l                        # list the sessions
    nox -s library hooks          # all interpreters that can be had
    nox -s lowest distributions   # old releases of the dependencies

`make test` runs on one interpreter with the pinned dependencies; these sessions run the tests that
need neither root nor engines on the others. Interpreters are taken from PATH, from pyenv, and,
where it may download them, from uv. A missing interpreter skips its session, and fails it in CI.
"""

from __future__ import annotations

import glob
import os

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv"
nox.options.sessions = ["library", "hooks", "lowest", "distributions"]
nox.options.error_on_missing_interpreters = "CI" in os.environ

os.environ["PATH"] = os.pathsep.join(
    [os.environ["PATH"], *sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin")))]
)

PYPROJECT = nox.project.load_toml("pyproject.toml")
LIBRARY_PYTHONS = nox.project.python_versions(PYPROJECT)
HOOK_PYTHONS = ["3.9", *LIBRARY_PYTHONS]
"""Hooks run on the host's own interpreter: RHEL 9 has 3.9."""

PYTEST = nox.project.dependency_groups(PYPROJECT, "pytest")
EXTRAS = nox.project.dependency_groups(PYPROJECT, "kubernetes")
"""What the tests of the library also import, in the newest releases."""
LIBRARY_TESTS = (
    *("tests/unit", "tests/golden", "tests/architecture", "tests/metrics/test_server.py"),
    *("tests/metrics/test_web_config.py", "-m", "not network"),
)
HOOK_TESTS = (
    *("tests/hook/test_elf.py", "tests/hook/test_requirement.py", "tests/hook/test_resolve.py"),
    *(
        "tests/hook/test_rootfs.py",
        "tests/hook/test_rootfs_reading.py",
        "tests/prestart/test_dbus.py",
    ),
    *("tests/prestart/test_device_filter.py", "tests/property/test_hook.py"),
    *("tests/property/test_hook_files.py", "tests/property/test_request.py"),
    *("tests/property/test_requirement.py", "tests/runtime/test_configuration.py"),
    "tests/runtime/test_configuration_file.py",
    *("tests/runtime/test_request.py", "tests/runtime/test_request_rest.py"),
    *("tests/runtime/test_request_sources.py", "tests/runtime/test_toml.py"),
)
"""Tests that import the hooks' modules into their own process. They run without conftest.py, which
imports the library: Python 3.9 cannot. Two need a fixture of it, and Hypothesis its profile."""
WITH_FIXTURES = (
    "tests/hook/test_elf.py::TestNote::test_note_in_a_library_of_a_real_linker",
    "tests/runtime/test_configuration.py::test_file_that_nvidia_ctk_writes_has_the_defaults",
)

DISTRIBUTIONS = {
    # Debian: apt-cache madison, 2026-11. Ubuntu: the lists of packages of its images.
    "debian-12": (
        "3.11",
        {
            "bcrypt": "3.2.2",
            "click": "8.1.3",
            "h11": "0.14.0",
            "jsonschema": "4.10.3",
            "nvidia-ml-py": "11.525.112",
            "pyyaml": "6.0",
            "tomlkit": "0.11.7",
        },
    ),
    "debian-13": (
        "3.13",
        {
            "bcrypt": "4.2.0",
            "click": "8.1.8",
            "h11": "0.14.0",
            "jsonschema": "4.19.2",
            "nvidia-ml-py": "12.550.89",
            "pyyaml": "6.0.2",
            "tomlkit": "0.13.2",
        },
    ),
    "ubuntu-22.04": (
        "3.10",
        {
            "bcrypt": "3.2.0",
            "click": "8.0.3",
            "h11": "0.13.0",
            "jsonschema": "3.2.0",
            "nvidia-ml-py": "11.450.51",  # packaged: 7.352, which counts as not installed
            "pyyaml": "5.4.1",
            "tomlkit": "0.9.2",
        },
    ),
    "ubuntu-24.04": (
        "3.12",
        {
            "bcrypt": "3.2.2",
            "click": "8.1.6",
            "h11": "0.14.0",
            "jsonschema": "4.10.3",
            "nvidia-ml-py": "12.535.133",
            "pyyaml": "6.0.1",
            "tomlkit": "0.12.4",
        },
    ),
}
"""The Python and the dependencies of the releases that cdi-gen is packaged for."""


def run_tests(session: nox.Session, *tests: str) -> None:
    """Run pytest in the session's environment."""
    session.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, *session.posargs)


@nox.session(python=LIBRARY_PYTHONS)
def library(session: nox.Session) -> None:
    """Unit, golden and architecture tests with the newest dependencies."""
    session.install("--editable", ".[metrics]", *PYTEST, *EXTRAS)
    run_tests(session, *LIBRARY_TESTS)


@nox.session(python=HOOK_PYTHONS)
def hooks(session: nox.Session) -> None:
    """The hooks' own tests, with nothing installed but pytest and what tests import."""
    session.install(*PYTEST)
    deselected = [f"--deselect={test}" for test in WITH_FIXTURES]
    # Hypothesis's own profile "ci" has no deadline, as the profiles of conftest.py.
    run_tests(session, "--noconftest", "--hypothesis-profile=ci", *deselected, *HOOK_TESTS)


@nox.session(python=HOOK_PYTHONS)
def hook_processes(session: nox.Session) -> None:
    """The hook as a process on this Python, on containers; as root. A minute each."""
    hook_python = session.run(
        "python", "-c", "import sys; print(sys._base_executable)", silent=True
    )
    session.run(
        *(".venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/hook"),
        *("-m", "not host and not engine", *session.posargs),
        env={"CDI_GEN_HOOK_PYTHON": str(hook_python).strip()},
        external=True,
    )


@nox.session(python=LIBRARY_PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The lowest release of each dependency that pyproject.toml allows."""
    session.install("--resolution=lowest-direct", "--editable", ".[metrics]")
    session.install(*PYTEST, *EXTRAS)
    run_tests(session, *LIBRARY_TESTS)


@nox.session
@nox.parametrize(
    ["python", "distribution"],
    [(python, name) for name, (python, _) in DISTRIBUTIONS.items()],
    ids=list(DISTRIBUTIONS),
)
def distributions(session: nox.Session, distribution: str) -> None:
    """The dependencies that a release of Debian or Ubuntu packages, on its Python."""
    _, versions = DISTRIBUTIONS[distribution]
    session.install("--editable", ".[metrics]", *(f"{name}=={at}" for name, at in versions.items()))
    session.install(*PYTEST, *EXTRAS)
    run_tests(session, *LIBRARY_TESTS)
