# SPDX-License-Identifier: Apache-2.0
"""`/etc/cdi-gen/config.toml`: what it may say, who may write it, and what counts before it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from cdi_base import host_fingerprint
from cdi_gen import configuration
from cdi_gen.cli.host_options import OPTIONS, HostOption, HostOptions, host_options
from cdi_gen.errors import CdiGenError, UnsafeError
from tests.cli.program import cdi_gen, failure, generate
from tests.fakehost.hosts import FakeHost
from tests.host.looking import REPOSITORY
from tests.runtime.machine import Machine

PACKAGES = [
    path.parent
    for folder in (REPOSITORY, REPOSITORY / "hooks", REPOSITORY / "specs")
    for path in folder.glob("cdi_*/__init__.py")
]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ALL = """
[host]
driver-root = "/run/nvidia/driver"
dev-root = "/run/nvidia/dev"
library-search-path = ["/run/nvidia/driver/lib", "/run/nvidia/driver/lib64"]
config-search-path = []
nvidia-cdi-hook-path = "/opt/hook/nvidia-cdi-hook"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "config.toml"
    place.write_text(ALL)
    return place


def shown(*words: str, file: Path, env: dict[str, str] | None = None) -> dict[str, Any]:
    result = cdi_gen("--config", str(file), "config", "show", "-o", "json", *words, env=env)
    assert result.code == 0, result
    found: dict[str, Any] = json.loads(result.out)
    assert found["files"] == [str(file)]
    return dict(found["host"])


def test_each_key_is_an_option_that_describes_a_host() -> None:
    """All options of `generate` about directories to search, except --host-root."""

    @host_options
    def command(host: HostOptions) -> None:
        pass

    options: list[click.Option] = vars(command)["__click_params__"]
    assert len(options) == len(OPTIONS)
    keys = {each.key for each in options if isinstance(each, HostOption)}
    assert keys == set(configuration.TABLES["host"])
    assert [each.name for each in options if not isinstance(each, HostOption)] == ["host_root"]
    for option in options:
        if isinstance(option, HostOption):
            assert f"--{option.key}" in option.opts
            assert option.multiple is configuration.TABLES["host"][option.key].is_list


def test_the_shim_looks_at_the_same_files() -> None:
    assert host_fingerprint.configuration_files()[0] == configuration.PATH
    assert configuration.DROP_INS == "/etc/cdi-gen/config.d"


def test_what_the_file_says(file: Path) -> None:
    found = shown(file=file)
    assert found["driver-root"] == {"value": "/run/nvidia/driver", "from": f"{file}, line 3"}
    assert found["library-search-path"]["value"] == [
        "/run/nvidia/driver/lib",
        "/run/nvidia/driver/lib64",
    ]
    assert found["config-search-path"] == {"value": [], "from": f"{file}, line 6"}
    assert found["nvidia-cdi-hook-path"]["value"] == "/opt/hook/nvidia-cdi-hook"
    assert [each["from"] for each in found.values()] == [f"{file}, line {n}" for n in range(3, 8)]


def test_settings_of_refresh_are_shown_with_their_sources(file: Path) -> None:
    file.write_text('[refresh]\nmodes = ["auto", "gds"]\n')
    result = cdi_gen("--config", str(file), "config", "show", "-o", "json")
    settings = json.loads(result.out)["refresh"]
    assert settings["modes"] == {"value": ["auto", "gds"], "from": f"{file}, line 2"}
    assert settings["output-directory"] == {"value": "/run/cdi", "from": "default"}
    assert settings["device-nodes"] == {"value": False, "from": "default"}
    assert list(settings) == list(configuration.TABLES["refresh"])
    table = cdi_gen("--config", str(file), "config", "show").out
    assert re.search(rf"^refresh\.modes +auto, gds +{file}, line 2$", table, re.MULTILINE)


def test_what_counts_before_it(file: Path) -> None:
    """The command line, then the environment, then the file, then the default."""
    env = {
        "NVIDIA_CTK_DRIVER_ROOT": "/of/the/environment",
        "NVIDIA_CTK_DEV_ROOT": "/of/the/environment",
        "NVIDIA_CTK_CDI_GENERATE_LIBRARY_SEARCH_PATHS": "/of/the/environment",
    }
    found = shown("--dev-root", "/of/the/line", "--library-search-path=/a", file=file, env=env)
    assert found["driver-root"]["value"] == "/of/the/environment"
    assert found["driver-root"]["from"] == "the environment, NVIDIA_CTK_DRIVER_ROOT"
    assert found["dev-root"] == {"value": "/of/the/line", "from": "the command line, --dev-root"}
    assert found["library-search-path"]["value"] == ["/a"]
    assert found["nvidia-cdi-hook-path"]["from"] == f"{file}, line 7"
    file.write_text("")
    assert shown(file=file)["driver-root"] == {"value": "/", "from": "default"}


def test_a_table_for_people(file: Path) -> None:
    result = cdi_gen("config", "show", env={"CDI_GEN_CONFIG": str(file)})
    assert result.out.splitlines()[0].split() == ["KEY", "VALUE", "FROM"]
    (line,) = [line for line in result.out.splitlines() if line.startswith("library-search-path")]
    assert line.endswith(f"{file}, line 5")
    assert "  /run/nvidia/driver/lib, /run/nvidia/driver/lib64  " in line
    assert result.err == f"cdi-gen: read {file}\n"


@pytest.mark.parametrize("command", ["generate", "inventory", "list", "show 0", "runtime prepare"])
def test_who_reads_it(file: Path, command: str) -> None:
    """Each ends at the directory that the file names, and says where that is said."""
    said = failure(cdi_gen("--config", str(file), *command.split()), 1)
    assert "--driver-root: no such directory: /run/nvidia/driver" in said
    assert f"hint: the value is set in {file}, line 3" in said
    words = [*command.split(), "--driver-root", "/nowhere/else"]
    said = failure(cdi_gen("--config", str(file), *words), 1)
    assert "no such directory: /nowhere/else" in said
    assert "says so" not in said


def test_an_inventory_is_of_another_host(file: Path) -> None:
    """What is said of this one has no say in it, not even where the hook is."""
    assert generate().out == generate(env={"CDI_GEN_CONFIG": str(file)}).out
    file.write_text("not = [TOML")
    assert generate(env={"CDI_GEN_CONFIG": str(file)}).code == 0


FAULTS: dict[str, tuple[str, str]] = {
    "key": ('[host]\n\ndriver-rot = "/x"', "line 3: unknown key 'driver-rot'; did you mean driver-root?"),
    "no such key": ("[host]\nx = 1", "line 2: unknown key 'x'"),
    "outside": ('driver-root = "/x"', "line 1: unknown key 'driver-root'"),
    "table": ("# a\n[hosts]\n", "line 2: unknown table 'hosts'"),
    "no table": ("host = 1", "line 1: host must be a table"),
    "number": ("[host]\ndriver-root = 7", "line 2: driver-root must be a path"),
    "list": ('[host]\ndriver-root = ["/x"]', "line 2: driver-root must be a path"),
    "text": ('[host]\nlibrary-search-path = "/x"', "line 2: library-search-path must be a list of paths"),
    "numbers": ("[host]\nlibrary-search-path = [1]", "line 2: library-search-path must be a list"),
    "relative": ('[host]\ndev-root = "x"', "line 2: dev-root: 'x' is not an absolute path"),
    "relative of several": ('[host]\nconfig-search-path = ["/a", ""]', "line 2: config-search-path: '' is not"),
    "control": ('[host]\ndev-root = "/\\u001b[2J"', "line 2: dev-root: '/\\x1b[2J' is not"),
    "syntax": ("[host]\ndev-root = /x", "line 2: '/x' is not a value; text needs quotes"),
    "twice": ('[host]\ndev-root = "/x"\ndev-root = "/x"', "line 3: 'host.dev-root' is defined twice"),
    "word": ("[refresh]\nform = true", "line 2: form must be a text"),
    "words": ('[refresh]\nmodes = "auto"', "line 2: modes must be a list of texts"),
    "switch": ('[refresh]\ndevice-nodes = "yes"', "line 2: device-nodes must be true or false"),
    "key of refresh": ("[refresh]\nmode = 1", "line 2: unknown key 'mode'; did you mean modes?"),
    "other table": ('[host]\nform = "tree"', "line 2: unknown key 'form'"),
    "inline": ('host = { dev-rot = "/x" }', "line 1: unknown key 'dev-rot'; did you mean dev-root?"),
    "binary": ("[host]\n\udcff", "line 2: not UTF-8 text"),
    "large": ("#" * (1 << 18) + "\n", "is larger than 262144 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_it_may_not_say(file: Path, name: str) -> None:
    text, words = FAULTS[name]
    file.write_bytes(text.encode(errors="surrogateescape"))
    for command in (["config", "show"], ["generate"]):
        said = failure(cdi_gen("--config", str(file), *command), 1)
        assert f"{file}, {words}" in said or f"{file} {words}" in said
    # What is no fault of the command is no reason to withhold its help.
    assert cdi_gen("--config", str(file), "generate", "--help").code == 0


@pytest.mark.parametrize("kind", ["absent", "directory", "fifo"])
def test_what_is_no_file(file: Path, kind: str) -> None:
    file.unlink()
    if kind == "directory":
        file.mkdir()
    elif kind == "fifo":
        os.mkfifo(file)
    words = {
        "absent": "No such file",
        "directory": "Is a directory",
        "fifo": "not a regular file",
    }
    said = failure(cdi_gen("--config", str(file), "generate"), 1)
    assert words[kind] in said
    assert str(file) in said


@as_root
@pytest.mark.parametrize("way", ["mode", "owner", "link"])
def test_a_file_that_others_can_change(file: Path, way: str) -> None:
    if way == "mode":
        file.chmod(0o646)
    elif way == "owner":
        os.chown(file, 1000, 0)
    else:
        (file.parent / "link").symlink_to(file)
        os.chown(file.parent / "link", 1000, 1000, follow_symlinks=False)
        file = file.parent / "link"
    for command in (["generate"], ["config", "show"], ["runtime", "prepare"]):
        said = failure(cdi_gen("--config", str(file), *command), 7)
        assert f"{file} is not read: " in said
        assert "root:root 0644" in said


@as_root
def test_an_ordinary_user_reads_their_own(tmp_path: Path) -> None:
    """Nobody else runs what they write."""
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o055)
    file = tmp_path / "config.toml"
    file.write_text('[host]\ndriver-root = "/x"\n')
    os.chown(file, 1000, 1000)
    # The checkout and the interpreter of an environment may lie where only root can read.
    for package in PACKAGES:
        shutil.copytree(package, tmp_path / "library" / package.name)
    python = next(path for path in ("/usr/bin/python3", sys.executable) if os.path.exists(path))
    load = f"configuration.load({str(file)!r})['host']['driver-root'].value"
    code = f"from cdi_gen import configuration; print({load})"
    done = subprocess.run(
        ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", python, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "library"), "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, "/x\n"), done


# The files of the host itself, and drop-ins.


@pytest.fixture
def host_root(tmp_path: Path) -> Path:
    """A host whose / is elsewhere, as in a container that looks at it."""
    (tmp_path / "etc/cdi-gen/config.d").mkdir(parents=True)
    (tmp_path / "etc/cdi-gen/config.toml").write_text(ALL)
    return tmp_path


def test_drop_ins_come_after_it(host_root: Path) -> None:
    folder = host_root / "etc/cdi-gen/config.d"
    (folder / "50-b.toml").write_text('[host]\ndev-root = "/b"\nlibrary-search-path = ["/b"]\n')
    (folder / "10-a.toml").write_text('[host]\ndev-root = "/a"\ndriver-root = "/a"\n')
    (folder / "60-c.toml.rpmnew").write_text("rubbish")
    found = configuration.load(host_root=str(host_root))["host"]
    where = "/etc/cdi-gen/config.d"
    assert found["driver-root"] == ("/a", f"{where}/10-a.toml, line 3")
    assert found["dev-root"] == ("/b", f"{where}/50-b.toml, line 2")
    # A list is replaced, not added to.
    assert found["library-search-path"] == (("/b",), f"{where}/50-b.toml, line 3")
    assert found["nvidia-cdi-hook-path"].source == "/etc/cdi-gen/config.toml, line 7"


def test_drop_ins_alone(host_root: Path) -> None:
    (host_root / "etc/cdi-gen/config.toml").unlink()
    assert configuration.load(host_root=str(host_root)) == {"host": {}, "refresh": {}}
    (host_root / "etc/cdi-gen/config.d/a.toml").write_text('[host]\ndev-root = "/a"')
    assert configuration.load(host_root=str(host_root))["host"]["dev-root"].value == "/a"


@pytest.mark.parametrize("link", ["etc/cdi-gen", "etc/cdi-gen/config.toml", "etc/cdi-gen/config.d"])
def test_a_link_of_the_host_leads_to_its_own_files(host_root: Path, link: str) -> None:
    """As on NixOS, where all of /etc is links; the same path in our own root has something else."""
    (host_root / "etc/cdi-gen/config.d/a.toml").write_text('[host]\ndev-root = "/a"')
    before = configuration.load(host_root=str(host_root))
    (host_root / "store").mkdir()
    place = host_root / "store" / Path(link).name
    (host_root / link).rename(place)
    (host_root / link).symlink_to(f"/store/{place.name}")
    assert configuration.load(host_root=str(host_root)) == before
    if os.geteuid() == 0:
        os.chown(place, 1000, 1000)
        with pytest.raises(UnsafeError):
            configuration.load(host_root=str(host_root))


@pytest.mark.parametrize("name", ["config.d", "config.toml"])
def test_what_leads_nowhere_is_told(host_root: Path, name: str) -> None:
    place = host_root / "etc/cdi-gen" / name
    place.rename(host_root / "elsewhere")
    place.symlink_to(name)
    with pytest.raises(CdiGenError, match=f"cannot read /etc/cdi-gen/{name}: Too many"):
        configuration.load(host_root=str(host_root))


def test_the_hosts_file_is_below_its_root(host_root: Path) -> None:
    said = failure(cdi_gen("generate", "--host-root", str(host_root)), 1)
    assert "no such directory: /run/nvidia/driver" in said
    assert "the value is set in /etc/cdi-gen/config.toml, line 3" in said


# The shim.


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="needs no driver")
def test_a_preparation_by_other_files_is_not_the_shims(tmp_path: Path) -> None:
    """It would not notice when they change."""
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "config.toml").write_text("")

    def key(*words: str, **env: str) -> object:
        more = ("runtime", "prepare", "-o", "-", "--spec-dir", str(tmp_path))
        result = cdi_gen(*words, *more, env=env)
        assert result.code == 0, result
        return json.loads(result.out)["key"]

    usual = key()
    assert key() == usual
    assert key("--config", str(tmp_path / "config.toml")) != usual
    assert key(CDI_GEN_CONFIG=str(tmp_path / "config.toml")) != usual
    # What `generate` takes from its environment, it does not: the shim has another one.
    assert key(NVIDIA_CTK_DRIVER_ROOT="/nowhere") == usual


@pytest.mark.host
@as_root
def test_the_shim_prepares_again_when_the_configuration_changes(
    tmp_path: Path, host: Callable[[str], FakeHost]
) -> None:
    """A driver where it is found by options alone; two files, as an administrator changes them."""
    tmp_path.chmod(0o755)
    machine = Machine(tmp_path, host("550-1gpu"))
    root = str(machine.host_root)
    machine.configure()
    # NVIDIA's config.toml says nothing of the driver's root.
    machine.settings.write_text(machine.settings.read_text().replace(f'root = "{root}"', ""))
    etc = tmp_path / "etc"
    etc.mkdir()
    within = f"mkdir -p /etc/cdi-gen; mount --bind {etc} /etc/cdi-gen"
    if not Path("/etc/cdi-gen").is_dir():
        within = _over_etc(etc)
    hooks = f"import sys; sys.path.insert(0, {str(machine.installed)!r})"
    code = (
        f"{hooks}\nfrom cdi_runtime.config_toml import configuration\nfrom cdi_runtime.specs import prepared\n"
        "found = prepared.load(configuration.load(), print)\n"
        "print([each['path'] for each in found.specs[0]['devices'][0]['containerEdits']['deviceNodes']],"
        " found.specs[0]['containerEdits']['hooks'][0]['path'])"
    )

    def load() -> str:
        ended = machine.run("/usr/bin/python3", "-IS", "-c", code, within=within)
        return ended.stdout + ended.stderr

    # What is looked for under / is not there, or another driver's.
    assert "the CDI specs of this host cannot be generated" in load()
    (etc / "config.toml").write_text(f'[host]\ndriver-root = "{root}"\n')
    assert "/dev/nvidia0" in load()
    times = machine.times_prepared()
    assert "/dev/nvidia0" in load()
    assert machine.times_prepared() == times
    other = tmp_path / "libexec/other"
    shutil.copytree(machine.installed, other)
    (etc / "config.d").mkdir()
    (etc / "config.d/hook.toml").write_text(
        f'[host]\nnvidia-cdi-hook-path = "{other}/cdi-gen-hook"\n'
    )
    # Said by an administrator: it counts before the one beside the shim.
    assert f"{other}/cdi-gen-hook" in load()
    assert machine.times_prepared() == times + 1
    # With another dev root, its nodes are watched: when they change, the file is prepared again.
    dev = tmp_path / "elsewhere"
    shutil.copytree(f"{root}/dev", dev / "dev", symlinks=True, copy_function=_node)
    (etc / "config.d/zz.toml").write_text(f'[host]\ndev-root = "{dev}"\n')
    assert "/dev/nvidia0" in load()
    assert machine.times_prepared() == times + 2
    (dev / "dev/nvidia0").chmod(0o600)
    load()
    assert machine.times_prepared() == times + 3
    (etc / "config.d/zz.toml").write_text("[host]\ndev-rot = 1\n")
    assert "config.d/zz.toml, line 2: unknown key 'dev-rot'" in load()


def _node(source: str, target: str) -> str:
    status = os.lstat(source)
    os.mknod(target, status.st_mode, status.st_rdev)
    os.chmod(target, status.st_mode & 0o7777)
    return target


def _over_etc(etc: Path) -> str:
    """A machine that has no /etc/cdi-gen gets one in its mount namespace alone."""
    return (
        f"mkdir -p {etc.parent}/upper {etc.parent}/work; "
        f"mount -t overlay -o lowerdir=/etc,upperdir={etc.parent}/upper,workdir={etc.parent}/work "
        f"none /etc; mkdir -p /etc/cdi-gen; mount --bind {etc} /etc/cdi-gen"
    )
