# SPDX-License-Identifier: Apache-2.0
"""The wheel, installed where no checkout is: it does all, with nothing but its dependencies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import cdi_gen as package
from cdi_gen.host import hook_program
from cdi_gen.programs.install import PROGRAMS
from tests.cli.program import CHECKOUT, GOLDEN, ONE_GPU

CONSUMER = """
from cdi_gen.cdi.model import Device, Spec
from cdi_gen.cdi.wire import dump, load
from cdi_gen.generate import generate
from cdi_gen.generate.options import Options
from cdi_gen.inventory import Inventory
from cdi_gen.inventory.json_form import load as inventory


def names(host: Inventory) -> list[str]:
    spec: Spec = generate(host, Options(names=("uuid",)))
    devices: tuple[Device, ...] = load(dump(spec, "yaml")).devices
    return [device.name for device in devices]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel, and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist",
         "--outdir", folder, CHECKOUT],
        check=True, capture_output=True, cwd=folder, timeout=120,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment's worth of directory: the wheel, and links to its dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = built.glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--disable-pip-version-check", "--target", folder, wheel],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    import click

    # Links to the packages, and not the directory itself, whose .pth files lead to the checkout.
    for path in Path(click.__file__).parents[1].iterdir():
        if not path.name.startswith(("cdi_", "_", "pip")) and path.suffix != ".pth":
            link = folder / path.name
            if not link.exists():
                link.symlink_to(path)
    return folder


def _python(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the installed packages alone, in a directory where nothing is."""
    empty = installed.parent / "elsewhere"
    empty.mkdir(exist_ok=True)
    found = subprocess.run(
        [sys.executable, "-S", *arguments],
        env={"PYTHONPATH": str(installed), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        cwd=empty, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in found.stderr, found.stderr
    return found


def test_no_checkout_is_in_reach(installed: Path) -> None:
    script = "import cdi_gen, cdi_hook, cdi_specs; print(cdi_gen.__file__, cdi_hook.__file__)"
    found = _python(installed, "-c", script).stdout.split()
    assert all(path.startswith(f"{installed}/") for path in found)
    assert len(found) == 2


@pytest.mark.parametrize("host", sorted(path.name for path in GOLDEN.iterdir()))
def test_it_generates_byte_for_byte(installed: Path, host: str) -> None:
    inventory = GOLDEN / host / "inventory.json"
    found = _python(installed, "-m", "cdi_gen", "generate", "--inventory", str(inventory))
    left_out = bool(json.loads(inventory.read_text()).get("unusableDevices"))
    code = 4 if left_out else 0
    assert (found.returncode, found.stdout) == (code, (GOLDEN / host / "nvidia.json").read_text())


def test_it_does_what_needs_the_data_files(installed: Path) -> None:
    program = ("-m", "cdi_gen")
    assert _python(installed, *program, "validate", str(ONE_GPU / "nvidia.json")).returncode == 0
    for_engine = ("generate", "--for", "podman@4.9", "--format", "yaml", "--inventory")
    found = _python(installed, *program, *for_engine, str(ONE_GPU / "inventory.json"))
    assert (found.returncode, found.stdout) == (0, (ONE_GPU / "nvidia.yaml").read_text())
    inventory = ("--inventory", str(ONE_GPU / "inventory.json"), "-o", "yaml")
    assert _python(installed, *program, "list", *inventory).returncode == 0


@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="needs the system's Python")
def test_it_installs_its_hook(installed: Path, tmp_path: Path) -> None:
    found = _python(installed, "-m", "cdi_gen", "hook", "install", "--root", str(tmp_path))
    assert found.returncode == 0, found.stderr
    hook = tmp_path / "usr/local/libexec/cdi-gen/cdi-gen-hook"
    said = subprocess.run([hook, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"cdi-gen-hook {package.__version__}\n"


def test_it_installs_its_units(installed: Path, tmp_path: Path) -> None:
    """As an environment of pipx does for root."""
    subprocess.run(
        [installed / "bin/cdi-gen", "install", "--prefix", "/usr", "--root", tmp_path],
        check=True, capture_output=True,
    )  # fmt: skip
    for path in (CHECKOUT / "systemd").glob("*.service"):
        assert (tmp_path / "usr/lib/systemd/system" / path.name).exists()


def test_it_runs_its_hook_by_hand_before_anything_is_installed(
    installed: Path, tmp_path: Path
) -> None:
    """The launcher lies inside the package there, and its modules beside that."""
    if any(os.path.exists(f"{place}/cdi-gen-hook") for place in hook_program.DIRECTORIES):
        pytest.skip("this machine has the hook installed, and that one is run")
    (tmp_path / "root/etc").mkdir(parents=True)
    words = ("hook", "run", str(tmp_path / "root"))
    step = ("--", "create-symlinks", "--link", "../b::/etc/a")
    found = _python(installed, "-m", "cdi_gen", *words, "--dry-run", *step)
    assert (found.returncode, found.stderr) == (0, "")
    assert "/etc/a" in found.stdout
    assert not (tmp_path / "root/etc/a").is_symlink()
    found = _python(installed, "-m", "cdi_gen", *words, *step)
    assert (found.returncode, found.stderr) == (0, "")
    assert os.readlink(tmp_path / "root/etc/a") == "../b"
    assert not list(tmp_path.rglob("__pycache__"))


def test_the_script_and_the_metadata(installed: Path) -> None:
    (metadata,) = installed.glob("cdi_gen-*.dist-info")
    assert metadata.name == f"cdi_gen-{package.__version__}.dist-info"
    assert "cdi-gen = cdi_gen.__main__:main" in (metadata / "entry_points.txt").read_text()
    assert (metadata / "licenses/LICENSE").is_file()
    found = subprocess.run(
        [installed / "bin/cdi-gen", "--version"],
        env={"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout == f"cdi-gen {package.__version__}\n"


def test_a_typed_program_can_use_it(installed: Path, tmp_path: Path) -> None:
    script = tmp_path / "consumer.py"
    wrong = "\nanswer: int = names(inventory(''))\n"
    for text, code in ((CONSUMER, 0), (CONSUMER + wrong, 1)):
        script.write_text(text)
        found = _python(
            installed, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"),
            str(script),
        )  # fmt: skip
        assert found.returncode == code, found.stdout
        assert found.stdout.count("error:") == code
        assert "py.typed" not in found.stdout


def test_the_wheel_holds_what_runs_and_no_more(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    packages = (
        ("", "cdi_gen"), ("hooks/", "cdi_base"), ("hooks/", "cdi_hook"), ("hooks/", "cdi_runtime"), ("specs/", "cdi_specs"),
    )  # fmt: skip
    assert {name.partition("/")[0] for name in names} == {folder for _, folder in packages}
    launchers = {f"cdi_hook/{program}" for program in PROGRAMS}
    units = {
        f"cdi_gen/programs/systemd/{path.relative_to(CHECKOUT / 'systemd')}"
        for path in (CHECKOUT / "systemd").rglob("*")
        if path.is_file()
    }
    for root, folder in packages:
        here = {
            str(path.relative_to(CHECKOUT / root))
            for path in (CHECKOUT / root / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        there = {name for name in names if name.startswith(f"{folder}/")}
        assert there - launchers - units == here
    assert launchers | units <= names
    assert "cdi_hook/cdi-gen-hook" in names
    # Without the file type checkers ignore the annotations of a package, also where cdi_gen uses them.
    assert {f"{folder}/py.typed" for _, folder in packages} <= names


def test_the_sdist_holds_what_make_needs(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    tracked = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files",
         "Makefile", "packaging", "tools", "systemd", "requirements", "cdi_gen", "hooks", "*.md"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    assert set(tracked.stdout.split()) <= names


def test_every_json_of_the_specs_package_parses(installed: Path) -> None:
    files = sorted((installed / "cdi_specs").glob("**/*.json"))
    assert files
    for path in files:
        json.loads(path.read_text())
