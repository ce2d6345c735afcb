# SPDX-License-Identifier: Apache-2.0
"""config.toml: each key, its default, and the errors of an invalid file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdi_runtime.config_toml import values
from cdi_runtime.config_toml.configuration import parse
from cdi_runtime.config_toml.settings import Configuration, ConfigurationError
from tests.runtime.test_toml import SERIALIZED

ALL_CAPABILITIES = ("compute", "utility", "video", "graphics", "display", "ngx", "compat32")

DEFAULTS: dict[str, Any] = {
    "disable_require": False,
    "swarm_resource": (),
    "accept_environment_unprivileged": True,
    "accept_volume_mounts": False,
    "supported_driver_capabilities": ALL_CAPABILITIES,
    "driver_root": "",
    "cli_path": "",
    "cli_environment": (),
    "cli_debug": "",
    "ldcache": "",
    "ldconfig": "",
    "load_kmods": True,
    "no_pivot": False,
    "no_cgroups": False,
    "user": "",
    "debug": "/dev/null",
    "log_level": "info",
    "mode": "auto",
    "runtimes": ("runc", "crun"),
    "spec_dirs": ("/etc/cdi", "/var/run/cdi"),
    "default_kind": "nvidia.com/gpu",
    "annotation_prefixes": ("cdi.k8s.io/",),
    "csv_mount_spec_path": "/etc/nvidia-container-runtime/host-files-for-container.d",
    "csv_compat_container_root": "",
    "jit_feature_flags": (),
    "jit_disabled_hooks": (),
    "cuda_compat_mode": "ldconfig",
    "hook_path": "nvidia-container-runtime-hook",
    "skip_mode_detection": False,
    "ctk_path": "nvidia-ctk",
    "features": {},
    "source": None,
    "warnings": (),
}

CLI, RUNTIME = "[nvidia-container-cli]\n", "[nvidia-container-runtime]\n"
MODES = "[nvidia-container-runtime.modes]\n"

KEYS = [
    # What the file says, the attribute, its value.
    ("disable-require = true", "disable_require", True),
    ('swarm-resource = "DOCKER_RESOURCE_GPU"', "swarm_resource", ("DOCKER_RESOURCE_GPU",)),
    ('swarm-resource = " A, B,,A "', "swarm_resource", ("A", "B")),
    ('swarm-resource = ""', "swarm_resource", ()),
    (
        "accept-nvidia-visible-devices-envvar-when-unprivileged = false",
        "accept_environment_unprivileged",
        False,
    ),
    ("accept-nvidia-visible-devices-as-volume-mounts = true", "accept_volume_mounts", True),
    (
        'supported-driver-capabilities = "utility, compute"',
        "supported_driver_capabilities",
        ("compute", "utility"),
    ),
    (
        'supported-driver-capabilities = "all"',
        "supported_driver_capabilities",
        ALL_CAPABILITIES,
    ),
    (
        'supported-driver-capabilities = "compute,mps"',
        "supported_driver_capabilities",
        ("compute", "mps"),
    ),
    ('supported-driver-capabilities = ""', "supported_driver_capabilities", ()),
    (CLI + 'root = "/run/nvidia/driver"', "driver_root", "/run/nvidia/driver"),
    (CLI + 'path = "/opt/cli"', "cli_path", "/opt/cli"),
    (CLI + 'environment = ["A=b"]', "cli_environment", ("A=b",)),
    (CLI + 'debug = "/var/log/x"', "cli_debug", "/var/log/x"),
    (CLI + 'ldcache = "/etc/ld.so.cache"', "ldcache", "/etc/ld.so.cache"),
    (CLI + 'ldconfig = "@/sbin/ldconfig.real"', "ldconfig", "@/sbin/ldconfig.real"),
    (CLI + "load-kmods = false", "load_kmods", False),
    (CLI + "no-pivot = true", "no_pivot", True),
    (CLI + "no-cgroups = true", "no_cgroups", True),
    (CLI + 'user = "root:video"', "user", "root:video"),
    (RUNTIME + 'debug = "/var/log/y"', "debug", "/var/log/y"),
    (RUNTIME + 'log-level = "debug"', "log_level", "debug"),
    *((RUNTIME + f'mode = "{mode}"', "mode", mode) for mode in values.MODES),
    (RUNTIME + 'runtimes = ["/usr/bin/crun"]', "runtimes", ("/usr/bin/crun",)),
    (MODES + 'cdi.spec-dirs = ["/a", "/b"]', "spec_dirs", ("/a", "/b")),
    (MODES + 'cdi.default-kind = "vendor.com/gpu"', "default_kind", "vendor.com/gpu"),
    (MODES + 'cdi.annotation-prefixes = ["a/", "b"]', "annotation_prefixes", ("a/", "b")),
    (MODES + "cdi.annotation-prefixes = []", "annotation_prefixes", ()),
    (MODES + 'csv.mount-spec-path = "/c"', "csv_mount_spec_path", "/c"),
    (MODES + 'csv.compat-container-root = "/d"', "csv_compat_container_root", "/d"),
    (
        MODES + 'jit-cdi.nvcdi-feature-flags = ["disable-nvsandboxutils"]',
        "jit_feature_flags",
        ("disable-nvsandboxutils",),
    ),
    (
        MODES + 'jit-cdi.nvcdi-disable-hooks = ["enable-cuda-compat"]',
        "jit_disabled_hooks",
        ("enable-cuda-compat",),
    ),
    *(
        (MODES + f'legacy.cuda-compat-mode = "{mode}"', "cuda_compat_mode", mode)
        for mode in values.COMPAT_MODES
    ),
    ('[nvidia-container-runtime-hook]\npath = "/h"', "hook_path", "/h"),
    (
        "[nvidia-container-runtime-hook]\nskip-mode-detection = true",
        "skip_mode_detection",
        True,
    ),
    ('[nvidia-ctk]\npath = "/usr/bin/nvidia-ctk"', "ctk_path", "/usr/bin/nvidia-ctk"),
    *((f"[features]\n{name} = true", "features", {name: True}) for name in sorted(values.FEATURES)),
    # Other ways to write the same.
    ('nvidia-container-runtime.mode = "cdi"', "mode", "cdi"),
    ('nvidia-container-runtime = {mode = "cdi"}', "mode", "cdi"),
    ("\"nvidia-container-runtime\".'mode' = 'cdi'", "mode", "cdi"),
]


def as_dict(settings: Configuration) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Configuration.__slots__}


def made(text: str) -> Configuration:
    return parse(text.encode(), "/c")


def reason(text: str | bytes) -> str:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigurationError) as caught:
        parse(content, "/etc/x.toml")
    message = str(caught.value)
    assert message.isprintable()
    return message


def test_defaults() -> None:
    assert as_dict(Configuration()) == DEFAULTS
    assert as_dict(made("")) == DEFAULTS | {"source": "/c"}


def test_default_file_of_nvidia_ctk_has_the_defaults() -> None:
    assert as_dict(made(SERIALIZED)) == DEFAULTS | {
        "source": "/c",
        "ldconfig": "@/sbin/ldconfig.real",
    }


def test_file_that_nvidia_ctk_writes_has_the_defaults(
    nvidia_program: Callable[[str], Path],
) -> None:
    text = subprocess.run(
        [nvidia_program("nvidia-ctk"), "config", "default"],
        check=True,
        capture_output=True,
        timeout=20,
    ).stdout
    settings = parse(text, "/c")
    assert settings.warnings == ()
    uncommented = b"\n".join(
        line.removeprefix(b"#") for line in text.splitlines() if b"=" in line or b"[" in line
    )
    assert parse(uncommented, "/c").warnings == ()
    assert as_dict(settings) | {"ldconfig": "", "source": None} == DEFAULTS


@pytest.mark.parametrize(("text", "attribute", "value"), KEYS)
def test_key_sets_its_attribute(text: str, attribute: str, value: object) -> None:
    expected = DEFAULTS | {"source": "/c", attribute: value}
    assert as_dict(made(text)) == expected


def test_every_key_is_tested() -> None:
    assert {attribute for _, attribute, _ in KEYS} == DEFAULTS.keys() - {"source", "warnings"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        # Not TOML, and TOML of a kind that is not supported.
        ("a = 1\nb", 2, "'=' is missing"),
        ('[nvidia-container-cli]\nroot = "/a', 2, "does not end"),
        ("disable-require = true\ndisable-require = false", 2, "is defined twice"),
        ("x = 1.5", 1, "floats are not supported"),
        (b"a = 1\n\n# \xff", 3, "not UTF-8"),
        ('{"accept-nvidia-visible-devices-as-volume-mounts": true}', 1, "a key is missing"),
        # Values that the key does not take.
        ('\ndisable-require = "true"', 2, "'disable-require' is not true or false"),
        ("disable-require = 1", 1, "is not true or false"),
        ("swarm-resource = []", 1, "separated by commas"),
        (
            'supported-driver-capabilities = "compute,gpu"',
            1,
            "has 'gpu', which is not one of compute",
        ),
        ('supported-driver-capabilities = ["compute"]', 1, "separated by commas"),
        (CLI + "root = true", 2, "'nvidia-container-cli.root' is not a string"),
        (CLI + 'root = "driver"', 2, "is not an absolute path"),
        (CLI + 'environment = "A=b"', 2, "is not a list of strings"),
        (CLI + "environment = [1]", 2, "is not a list of strings"),
        (CLI + 'ldconfig = "/sbin/ldconfig"', 2, "does not begin with '@/'"),
        (CLI + 'ldconfig = "@sbin/ldconfig"', 2, "does not begin with '@/'"),
        (RUNTIME + "runtimes = []", 2, "'nvidia-container-runtime.runtimes' is empty"),
        (RUNTIME + '\nmode = "CDI"', 3, "is 'CDI', not one of auto, legacy, csv, cdi, jit-cdi"),
        (RUNTIME + 'mode = ""', 2, "is '', not one of"),
        (RUNTIME + "mode = {a = 1}", 2, "is not a string"),
        ("nvidia-container-runtime = {\tmode = 1}", 1, "'nvidia-container-runtime.mode' is not"),
        (MODES + 'cdi.spec-dirs = ["etc/cdi"]', 2, "has 'etc/cdi', which is not an absolute path"),
        (MODES + 'cdi.default-kind = "gpu"', 2, "is not of the form vendor/class"),
        (MODES + 'cdi.default-kind = "nvidia.com/gpu="', 2, "is not of the form"),
        (MODES + 'cdi.default-kind = "1vendor/gpu"', 2, "is not of the form"),
        (MODES + 'cdi.default-kind = "vendor.com/gpu/a"', 2, "is not of the form"),
        (MODES + 'cdi.annotation-prefixes = ["a", ""]', 2, "has an empty prefix"),
        ("features = true", 1, "'features' is not a table"),
        ("[features]\nallow-ldconfig-from-container = 1", 2, "is not true or false"),
    ],
)
def test_invalid_file_is_rejected_with_its_line(text: str | bytes, line: int, words: str) -> None:
    message = reason(text)
    assert message.startswith(f"'/etc/x.toml', line {line}: ")
    assert words in message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        # A slip of the pen that would leave a host open.
        (
            "accept-nvidia-visible-devices-envvar-when-unpriviledged = false",
            1,
            "'accept-nvidia-visible-devices-envvar-when-unpriviledged' is an unknown key",
        ),
        (
            RUNTIME + "experimental = true",
            2,
            "'nvidia-container-runtime.experimental' is an unknown key",
        ),
        ("[a]\nb = {c = 1}", 2, "'a.b.c' is an unknown key"),
        ("[features]\n\nfast = true", 3, "'features.fast' is an unknown key"),
        (
            MODES + 'legacy.cuda-compat-mode = "on"',
            2,
            "is not one of disabled, hook, ldconfig, mount; disabled is used",
        ),
        (
            CLI + 'ldconfig = "/x"\n[features]\nallow-ldconfig-from-container = true',
            2,
            "is a program of the container, which is never run",
        ),
    ],
)
def test_questionable_value_gets_a_warning_with_its_line(text: str, line: int, words: str) -> None:
    (warning,) = made(text).warnings
    assert warning.startswith(f"'/c', line {line}: ")
    assert words in warning


@pytest.mark.parametrize(
    ("feature", "mode"), [("", "disabled"), ("true", "ldconfig"), ("false", "disabled")]
)
def test_unknown_compat_mode_depends_on_the_feature(feature: str, mode: str) -> None:
    """As in nvidia-ctk, the default `ldconfig` needs a feature, and an empty text is not a default."""
    text = MODES + 'legacy.cuda-compat-mode = ""\n'
    if feature:
        text += f"[features]\nallow-cuda-compat-libs-from-container = {feature}"
    assert made(text).cuda_compat_mode == mode


def test_the_containers_ldconfig_is_never_run() -> None:
    text = CLI + 'ldconfig = "/x"\n[features]\nallow-ldconfig-from-container = true'
    assert made(text).ldconfig == ""


# Where it is.
