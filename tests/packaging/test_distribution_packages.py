# SPDX-License-Identifier: Apache-2.0
"""The packages for Debian and for distributions with rpm, built and used in a root of Debian."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdi_base import VERSION
from tests.host.looking import REPOSITORY
from tests.lab.engines import Inside, Lab
from tests.lab.podman import Podman
from tests.packaging.test_upgrades import NEXT, PROGRAMS, lay_out_next
from tools import deb

pytestmark = pytest.mark.engine
pytest_plugins = ["tests.lab.fixtures"]

SUITES = ["trixie", pytest.param("bookworm", marks=pytest.mark.nightly)]
SOURCES = (
    *("cdi_gen", "hooks", "specs/cdi_specs", "systemd", "tools", "packaging"),
    *("pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md"),
)
HOOK = "/usr/libexec/cdi-gen/cdi-gen-hook"
SPEC = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "devices": [{"name": "all", "containerEdits": {"env": ["GPU=all"]}}],
    "containerEdits": {
        "hooks": [
            {
                "hookName": "createContainer",
                "path": HOOK,
                "args": ["cdi-gen-hook", "create-container", "--folder", "/usr/lib"],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            }
        ]
    },
}
"""A spec with the package's hook, for a host without a GPU."""

BUILD = "dpkg-buildpackage --build=binary --unsigned-changes --no-check-builddeps"
"""It asks for build-essential, which a package without a compiled program does not need."""


def lay_out(root: Path, version: str) -> None:
    """Copy the sources of a version; without git, which a source archive lacks."""
    root.mkdir()
    for name in SOURCES:
        path = REPOSITORY / name
        target = root / name
        target.parent.mkdir(exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, target)
    if version == NEXT:
        lay_out_next(root / "hooks")
    deb.source(root, version)


@pytest.fixture(scope="module", params=SUITES)
def lab(request: pytest.FixtureRequest, lab_of: Callable[[str], Lab]) -> Lab:
    return lab_of(f"{request.param}-packaging")


@pytest.fixture(scope="module")
def built(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the packages of this version and of the next, and the output of checks."""
    work = tmp_path_factory.mktemp("packages")
    for version in (VERSION, NEXT):
        lay_out(work / f"cdi-gen-{version}", version)
    with lab.enter(writable={"/packages": work}) as inside:
        for version in (VERSION, NEXT):
            inside.run(["sh", "-c", BUILD], cwd=f"/packages/cdi-gen-{version}", timeout=300)
    return work


@pytest.fixture
def inside(lab: Lab, built: Path, image_archives: dict[str, Path]) -> Iterator[Inside]:
    binds = {"/packages": built, "/images.tar": image_archives["debian"]}
    with lab.enter(binds=binds) as inside:
        yield inside


def installed(inside: Inside, version: str = VERSION) -> str:
    return inside.run(["dpkg", "--install", f"/packages/cdi-gen_{version}_all.deb"]).stdout


@contextmanager
def starting(inside: Inside) -> Iterator[list[str]]:
    """Start the programs again and again; yield a list that gets the first lines of their outputs."""
    lines: list[str] = []
    programs = " ".join(f"/usr/libexec/cdi-gen/{name}" for name in PROGRAMS)
    script = f"""(
    while [ ! -e /run/end ]; do
        for program in {programs}; do $program --version 2>&1 | head -n 1; done
        touch /run/started
    done
    touch /run/ended
    ) >/run/versions </dev/null 2>&1 &"""
    inside.run(["sh", "-c", script])
    wait = "while [ ! -e $0 ]; do sleep 0.05; done"
    inside.run(["sh", "-c", wait, "/run/started"])
    try:
        yield lines
    finally:
        inside.run(["touch", "/run/end"])
        inside.run(["sh", "-c", wait, "/run/ended"])
        lines += inside.read("/run/versions").splitlines()


def imported_from_one_file(inside: Inside, directory: str) -> bool:
    """Whether each program's modules are imported from one file."""
    loaders = set()
    for file, module in (
        ("hook", "cdi_hook"),
        ("shim", "cdi_runtime"),
        ("prestart", "cdi_runtime"),
    ):
        look = (
            f"import sys; sys.path.insert(0, '{directory}'); import cdi_{file}_modules, {module}; "
            f"print(type({module}.__loader__).__name__)"
        )
        loaders.add(inside.run(["/usr/bin/python3", "-IS", "-c", look]).stdout)
    return loaders == {"Collection\n"}


def test_lintian_has_nothing_to_say(inside: Inside) -> None:
    found = inside.run(
        ["lintian", "--allow-root", "--pedantic", "--display-info", f"/packages/cdi-gen_{VERSION}_all.deb"],
        check=False, timeout=300,
    )  # fmt: skip
    assert (found.returncode, found.stdout.strip()) == (0, "")


def test_the_package_is_installed_used_and_purged_without_a_trace(inside: Inside) -> None:
    find = ["find", "/", "-xdev", "(", "-path", "/proc", "-o", "-path", "/packages", ")", "-prune", "-o", "-name", "*cdi*gen*", "-print"]  # fmt: skip
    before = inside.run(find).stdout
    installed(inside)
    assert inside.run(["cdi-gen", "--version"]).stdout == f"cdi-gen {VERSION}\n"
    assert inside.run([HOOK, "--version"]).stdout == f"cdi-gen-hook {VERSION}\n"
    # The hook's interpreter reads compiled modules, and no directory of the user's.
    assert inside.read(HOOK).startswith("#!/usr/bin/python3 -IS\n")
    assert "cpython" in inside.run(["ls", "/usr/libexec/cdi-gen/cdi_hook/__pycache__"]).stdout
    assert imported_from_one_file(inside, "/usr/libexec/cdi-gen")
    found = inside.run(["cdi-gen", "generate"], check=False)
    assert (found.returncode, found.stdout) == (3, "")
    # Enabled for the next boot, and nothing was started: there is no driver to ask yet.
    enabled = inside.run(["find", "/etc/systemd/system", "-name", "cdi-gen*", "-printf", "%f "])
    assert {*enabled.stdout.split()} == {"cdi-gen.service", "cdi-gen-watch.service"}
    assert inside.run(["find", "/run/cdi", "/etc/cdi", "-type", "f"], check=False).stdout == ""
    inside.run(["dpkg", "--purge", "cdi-gen"])
    assert inside.run(find).stdout == before


def test_containers_run_and_start_while_the_package_is_upgraded(inside: Inside) -> None:
    installed(inside)
    inside.write("/etc/cdi/nvidia.json", json.dumps(SPEC))
    podman = Podman(inside)
    podman.load("/images.tar")
    start = ("run", "--device", "nvidia.com/gpu=all", "--network", "none")
    image = "localhost/debian"
    podman(*start, "--detach", "--name", "running", image, "sleep", "600")
    with starting(inside) as versions:
        for version in (NEXT, VERSION, NEXT):
            installed(inside, version)
    assert {line.rpartition(" ")[2] for line in versions} == {VERSION, NEXT}, versions
    assert inside.run([HOOK, "--version"]).stdout == f"cdi-gen-hook {NEXT}\n"
    cache = podman(*start, "--rm", image, "sh", "-c", "echo $GPU; ls -s /etc/ld.so.cache").stdout
    assert cache.startswith("all\n")
    inside.run(["dpkg", "--remove", "cdi-gen"])
    assert podman("exec", "running", "echo", "runs").stdout == "runs\n"
    refused = podman(*start, "--rm", image, "true", check=False)
    assert refused.returncode
    assert HOOK in refused.stderr


def test_the_rpm_has_the_same_programs(inside: Inside) -> None:
    build = (
        f"mkdir /rpm && tar -C /packages --exclude debian -czf /rpm/cdi-gen-{VERSION}.tar.gz cdi-gen-{VERSION} && "
        # The packages of Debian have other names than those in BuildRequires.
        f"rpmbuild -bb --nodeps --define 'version {VERSION}' --define '_sourcedir /rpm' --define '_topdir /rpm/top' "
        f"/packages/cdi-gen-{VERSION}/packaging/rpm/cdi-gen.spec && mv /rpm/top/RPMS/noarch/*.rpm /rpm/built.rpm"
    )  # fmt: skip
    inside.run(["sh", "-c", build], timeout=300)
    files = inside.run(["rpm", "-qlp", "/rpm/built.rpm"]).stdout.splitlines()
    units = {path for path in files if path.startswith("/usr/lib/systemd/system/")}
    assert {
        f"/usr/lib/systemd/system/{path.name}"
        for path in (REPOSITORY / "systemd").glob("*.service")
    } <= units
    assert {"/usr/bin/cdi-gen", "/usr/bin/nvidia-toolkit", HOOK} <= set(files)
    inside.run(["rpm", "--root", "/target", "--initdb"])
    inside.run(
        ["rpm", "--root", "/target", "--install", "--nodeps", "--noscripts", "/rpm/built.rpm"]
    )
    assert inside.run([f"/target{HOOK}", "--version"]).stdout == f"cdi-gen-hook {VERSION}\n"
    assert inside.run(["ls", "/target/usr/libexec/cdi-gen/cdi_hook/__pycache__"]).stdout
    assert imported_from_one_file(inside, "/target/usr/libexec/cdi-gen")
