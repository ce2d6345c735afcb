# SPDX-License-Identifier: Apache-2.0
"""The hook's process: the environment and descriptors that it inherits, its input and its limits."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cdi_base import process
from tests.hook.conftest import (
    ENVIRONMENT,
    HOOK,
    HOOKS,
    Container,
    fingerprint,
    wait_for_handler,
)

LINK = ("create-symlinks", "--link", "x::/opt/x")


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "HOME", "X\nY", "é"]
)
def test_another_environment_is_refused(container: Container, name: str) -> None:
    """Without `env` in the spec, the image's environment reaches the hook (CVE-2025-23266)."""
    ended = container.hook(*LINK, environment={**ENVIRONMENT, name: ""})
    assert ended.status == 1
    assert ended.said.count("\n") == 1
    assert f"{name!a} in the environment" in ended.said
    assert not (container.root / "opt/x").is_symlink()


@pytest.mark.parametrize("environment", [ENVIRONMENT, {}, {"PATH": "/bin"}])
def test_environment_of_a_spec_is_accepted(
    container: Container, environment: dict[str, str]
) -> None:
    assert container.hook(*LINK, environment=environment).status == 0


class TestUsage:
    def test_an_unknown_hook_stops_no_container(self, container: Container) -> None:
        """A60: a newer spec must not stop containers because the hook is older."""
        before = fingerprint(container.root)
        ended = container.hook("enable-everything", "--flag", "x")
        assert (ended.status, ended.said) == (
            0,
            "cdi-gen-hook: 'enable-everything': unknown hook: left out [CDG-K001]\n",
        )
        assert fingerprint(container.root) == before

    def test_missing_hook_name_stops_no_container(self, container: Container) -> None:
        before = fingerprint(container.root)
        ended = container.hook()
        assert (ended.status, ended.said) == (
            0,
            "cdi-gen-hook: the name of the hook is missing; see --help [CDG-K001]\n",
        )
        assert fingerprint(container.root) == before

    @pytest.mark.parametrize(
        "words",
        [
            ("create-symlinks", "--folder", "/x"),
            ("update-ldcache", "--link", "x::/y"),
            ("create-container", "--no-such"),
            ("create-container", "stray"),
            ("create-container", "--link"),
            ("create-container", "--link", "x::/y", "--folder"),
            ("create-container", "--link", "x::/y", "-f", "/x"),
        ],
    )
    def test_wrong_usage(self, container: Container, words: tuple[str, ...]) -> None:
        before = fingerprint(container.root)
        ended = container.hook(*words)
        assert ended.status == 2
        assert ended.said.count("\n") == 1
        assert fingerprint(container.root) == before

    @pytest.mark.parametrize("word", ["--help", "-h", "--version"])
    def test_help_and_version_are_printed(self, container: Container, word: str) -> None:
        ended = container.hook(word, environment=dict(os.environ))
        assert ended.status == 0
        assert ended.stdout.startswith("cdi-gen-hook 0." if "v" in word else "Usage: cdi-gen-hook")

    def test_hook_finds_its_package_through_a_link(self, container: Container) -> None:
        (container.bundle / "hook").symlink_to(HOOK)
        container.launcher = [str(container.bundle / "hook")]
        assert container.hook(*LINK).status == 0

    def test_hook_runs_from_another_directory(self, container: Container) -> None:
        shutil.copytree(HOOKS, container.bundle / "libexec")
        container.launcher = [str(container.bundle / "libexec/cdi-gen-hook")]
        shutil.rmtree(container.bundle / "libexec/cdi_hook/__pycache__", ignore_errors=True)
        before = fingerprint(container.bundle / "libexec")
        assert container.hook(*LINK).status == 0
        assert fingerprint(container.bundle / "libexec") == before

    @pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13", "3.14"])
    def test_hook_runs_with_every_supported_python(
        self, container: Container, version: str
    ) -> None:
        command = [f"python{version}", "-c", "import sys; print(sys.executable)"]
        if (
            not shutil.which(command[0])
            or subprocess.run(command, capture_output=True, check=False).returncode
        ):
            pytest.skip(f"no python{version}")
        executable = subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip()
        container.launcher = [executable, "-IS", str(HOOK)]
        ended = container.hook("create-container", "--link", "odd::/opt/x", "--folder", "/opt/odd")
        assert (ended.status, ended.said) == (0, "")
        assert (container.root / "etc/ld.so.cache").exists()
        assert container.hook(*LINK, stdin=b"{").status == 1


class TestState:
    """OCI state on stdin, and config.json (A39)."""

    @pytest.mark.parametrize("spelling", ["absolute", "rootfs", "./rootfs"])
    def test_root_in_the_state_is_used(self, container: Container, spelling: str) -> None:
        (container.bundle / "config.json").unlink()
        root = str(container.root) if spelling == "absolute" else spelling
        state = {
            "bundle": "/nowhere" if spelling == "absolute" else str(container.bundle),
            "root": root,
        }
        assert container.hook(*LINK, stdin=json.dumps(state).encode()).status == 0
        assert (container.root / "opt/x").is_symlink()

    @pytest.mark.parametrize("path", ["rootfs", "./rootfs/", "absolute"])
    def test_root_in_config_json_is_used(self, container: Container, path: str) -> None:
        path = str(container.root) if path == "absolute" else path
        config = {
            "ociVersion": "1",
            "process": {"args": ["x"]},
            "root": {"path": path, "readonly": True},
        }
        (container.bundle / "config.json").write_text(json.dumps(config))
        assert container.hook(*LINK).status == 0
        assert (container.root / "opt/x").is_symlink()

    def test_duplicate_key_is_refused(self, container: Container) -> None:
        """Readers disagree on which of two equal keys counts."""
        root = json.dumps(str(container.root)).encode()
        ended = container.hook(*LINK, stdin=b'{"root": ' + root + b', "root": ' + root + b"}")
        assert (ended.status, ended.said.count("not JSON")) == (1, 1)
        config = f'{{"root": {{"path": "{container.root}", "path": "rootfs"}}}}'
        (container.bundle / "config.json").write_text(config)
        assert container.hook(*LINK).status == 1

    def test_a_byte_order_mark(self, container: Container) -> None:
        assert container.hook(*LINK, stdin=b"\xef\xbb\xbf" + container.state() + b"\n").status == 0

    @pytest.mark.parametrize(
        "stdin",
        [
            b"", b"[]", b"1", b'"x"', b"null", b"{", b"{} {}", b"{}x", b'{"bundle": NaN}', b'{"bundle": 1e999}',
            b'{"bundle": null}', b'{"bundle": ""}', b'{"bundle": "relative"}', b'{"bundle": "/a\\u0000b"}',
            b'{"bundle": "/\\ud800"}', b'{"bundle": "/a\\nb"}', b'{"bundle": "/missing"}', b'{"bundle": "/etc/passwd"}',
            b'{"root": "/tmp", "root": "/"}', b'{"bundle": "/tmp", "bundle": "/"}', b'{"root": 5}', b'{"root": ["/"]}',
            b'{"root": "relative"}', b'{"root": ""}', "{}".encode("utf-16"), b"\xff\xfe", b"[" * 1_000_000,
            b'{"a":' * 200_000, b"9" * 5000, b'{"bundle": "' + b"x" * (2 << 20) + b'"}', b" " * (1 << 20) + b"{}",
        ],
        ids=lambda stdin: ascii(stdin[:24]),
    )  # fmt: skip
    def test_an_invalid_state_is_refused(self, container: Container, stdin: bytes) -> None:
        """A39 stdin-bombs."""
        ended = container.hook(*LINK, stdin=stdin)
        assert ended.status == 1
        assert ended.said.count("\n") == 1
        assert ended.seconds < 5

    @pytest.mark.parametrize(
        "config",
        ["", "[]", "{}", '{"root": 1}', '{"root": {}}', '{"root": {"path": ""}}', '{"root": {"path": "missing"}}',
         '{"root": {"path": "rootfs", "path": "/"}}', '{"root": {"path": "config.json"}}'],
    )  # fmt: skip
    def test_an_invalid_config_json_is_refused(self, container: Container, config: str) -> None:
        (container.bundle / "config.json").write_text(config)
        ended = container.hook(*LINK)
        assert (ended.status, ended.said.count("\n")) == (1, 1)

    @pytest.mark.parametrize("kind", ["link", "pipe", "another's", "missing", "folder", "huge"])
    def test_config_json_must_be_a_file_of_root(self, container: Container, kind: str) -> None:
        config = container.bundle / "config.json"
        original = config.rename(container.bundle / "kept.json")
        match kind:
            case "link":
                config.symlink_to("kept.json")
            case "pipe":
                os.mkfifo(config)
            case "another's":
                original.rename(config)
                os.chown(config, 1000, 1000)
            case "folder":
                config.mkdir()
            case "huge":
                config.touch()
                os.truncate(config, 1 << 40)
        ended = container.hook(*LINK)
        assert (ended.status, ended.said.count("\n")) == (1, 1)
        assert ended.seconds < 5

    def test_start_directory_is_the_root_if_config_json_is_not_readable(
        self, container: Container
    ) -> None:
        """With Docker's `userns-remap` only the host's root may enter the bundle."""
        container.bundle.chmod(0o755)
        (container.bundle / "config.json").chmod(0o600)
        os.chown(container.bundle / "config.json", 1, 1)
        container.within = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        assert container.hook(*LINK).status == 0
        assert (container.root / "opt/x").is_symlink()

    def test_bundle_is_not_used_as_the_root(self, container: Container) -> None:
        os.chown(container.bundle / "config.json", 1, 1)
        (container.bundle / "config.json").chmod(0o600)
        container.within = [
            "setpriv", "--bounding-set=-dac_override,-dac_read_search",
            "env", "-i", "-C", str(container.bundle),
        ]  # fmt: skip
        ended = container.hook(*LINK)
        assert ended.status == 1
        assert "no permission to read config.json" in ended.said


class TestTheEnd:
    def test_state_that_never_arrives_ends_the_hook(self, container: Container) -> None:
        container.altered(process__SECONDS="1")
        read, write = os.pipe()
        begun = time.monotonic()
        ended = subprocess.run(
            [*container.launcher, *LINK],
            stdin=read,
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
            timeout=20,
        )
        assert ended.returncode == 1
        assert b"did not end in time" in ended.stderr
        assert time.monotonic() - begun < process.SECONDS - 1, "that is the usual deadline"
        os.close(read)
        os.close(write)

    def test_endless_state_ends_the_hook(self, container: Container) -> None:
        with Path("/dev/zero").open("rb") as zeros:
            ended = subprocess.run(
                [*container.launcher, *LINK],
                stdin=zeros,
                env=ENVIRONMENT,
                capture_output=True,
                check=False,
                timeout=60,
            )
        assert ended.returncode == 1
        assert b"larger than" in ended.stderr

    @pytest.mark.parametrize(
        "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM]
    )
    @pytest.mark.parametrize("blocked", [False, True])
    def test_signal_ends_the_hook_with_a_line(
        self, container: Container, number: signal.Signals, blocked: bool
    ) -> None:
        """crun starts hooks with all signals blocked, the deadline's included."""
        container.altered(process__SECONDS="600")
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [number] if blocked else [])
        try:
            hook = subprocess.Popen(
                [*container.launcher, *LINK],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=ENVIRONMENT,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        wait_for_handler(hook, signal.SIGALRM)  # the last one that it sets
        hook.send_signal(number)
        _, output = hook.communicate(timeout=60)
        assert hook.returncode == (1 if number == signal.SIGALRM else 128 + number)
        assert output.count(b"\n") == 1

    @pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "busy"])
    @pytest.mark.parametrize("place", ["weakref callback", "finalizer"])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGALRM])
    def test_a_signal_is_not_lost_where_python_ignores_exceptions(
        self, place: str, number: signal.Signals, is_busy: bool
    ) -> None:
        """On a busy machine the second delivery comes while Python still handles the first."""
        program = textwrap.dedent(f"""\
            import _signal, os, time, weakref
            from cdi_base import process
            from cdi_base.errors import HookError

            class Thing:
                def __del__(self):
                    if {place == "finalizer"}:
                        os.kill(os.getpid(), {int(number)})

            def set_timer(*arguments):
                _signal.setitimer = of_python
                of_python(*arguments)
                time.sleep(0.02)

            of_python = _signal.setitimer
            if {is_busy}:
                _signal.setitimer = set_timer
            process.begin("test")
            thing = Thing()
            callback = lambda _: os.kill(os.getpid(), {int(number)})
            reference = weakref.ref(thing, callback) if {place != "finalizer"} else None
            try:
                del thing
                time.sleep(5)  # less than the deadline, whose alarm also ends it
            except process.InterruptedHookError as fault:
                print(fault, flush=True)
                os._exit(fault.status)
            """)
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": str(HOOKS)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.stderr == ""
        message, status = {
            signal.SIGTERM: ("signal 15\n", 143),
            signal.SIGALRM: ("not done after 10 s\n", 1),
        }[number]
        assert (ended.stdout, ended.returncode) == (message, status)

    def test_a_closed_stderr_stops_no_container(self, container: Container) -> None:
        """A62: a closed stderr stops no container."""
        container.within = ["sh", "-c", 'exec "$@" 2>&-', "sh", "env", "-u", "PWD", "-u", "OLDPWD"]
        assert container.hook("no-such-hook").status == 0

    def test_memory_of_the_hook(self, container: Container, tmp_path: Path) -> None:
        """The hook needs far less than 128 MiB, including ldconfig."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        assert container.hook("create-container", "--folder", "/opt/odd").status == 0
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        assert peak < 128 << 10 or peak == before


def loaded_steps(code: str) -> set[str]:
    """The modules of steps that were imported by some code."""
    script = f"import sys; sys.path.insert(0, {str(HOOKS)!r}); from cdi_hook import __main__ as hook; {code}"
    script += "\nprint(*(name for name in sys.modules if name.startswith('cdi_hook.steps.')))"
    ended = subprocess.run(
        ["/usr/bin/python3", "-IS", "-c", script], check=True, capture_output=True, text=True
    )
    return {name.removeprefix("cdi_hook.steps.") for name in ended.stdout.split()}


def test_only_requested_steps_are_imported() -> None:
    plan = "hook.plan('create-container', hook.STEPS, {words!r})"
    assert loaded_steps("") == set()
    assert loaded_steps(plan.format(words=["--folder=/usr/lib", "--mode=755", "--path=/dev"])) == {
        "update_ldcache",
        "chmod",
    }
    # An option that another step has too, without the switch of this step.
    words = ["--host-driver-version=550.1", "--gpu=0::"]
    assert loaded_steps(plan.format(words=words)) == {"enable_cuda_compat"}


def test_a_process_that_will_enter_a_container_imports_all_steps_before() -> None:
    """In the prestart hook's child, the paths of our modules lead to files of the container."""
    modules = {path.stem for path in (HOOKS / "cdi_hook/steps").glob("[a-z]*.py")}
    assert loaded_steps("hook.load_all()") == modules
