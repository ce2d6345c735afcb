# SPDX-License-Identifier: Apache-2.0
"""What the commands of ``cdi-gen kubernetes`` have in common: options, and the extra's packages."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cdi_gen.cli.host_options import DIRECTORY, PROGRAM, TEXT
from cdi_gen.errors import CdiGenError
from cdi_gen.kubernetes.settings.choice import FALLBACKS, LABEL

if TYPE_CHECKING:
    from cdi_gen.host import Where
    from cdi_gen.kubernetes.settings import Settings

DRIVER_ROOT = click.option(
    "--driver-root",
    "--nvidia-driver-root",
    type=DIRECTORY,
    envvar="NVIDIA_DRIVER_ROOT",
    help="Directory of the host under which the driver is installed.  [default: /]",
)
DEV_ROOT = click.option(
    "--dev-root",
    "--nvidia-dev-root",
    type=DIRECTORY,
    envvar="NVIDIA_DEV_ROOT",
    help="Directory of the host under which the driver's /dev is.  [default: the driver root]",
)
HOST_ROOT = click.option(
    "--host-root",
    type=DIRECTORY,
    default="/",
    show_default=True,
    envvar="HOST_ROOT",
    help="Where the host's / is mounted in this container.",
)


class Words(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.3
    """Words with commas between them."""

    name = "words"

    def __init__(self, words: tuple[str, ...] = ()) -> None:
        self._words = words

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the words; each must be one of the known ones, if there are any."""
        if isinstance(value, tuple):
            return value
        words = tuple(word for part in str(value).split(",") if (word := part.strip()))
        for word in words:
            if self._words and word not in self._words:
                self.fail(f"{word!r} is not one of {', '.join(self._words)}", param, ctx)
        return words


class ConfigOptions(NamedTuple):
    """The values of the options that choose the config file."""

    config_file: str | None
    config_directory: str | None
    config_label: str
    default_config: str
    config_fallbacks: tuple[str, ...]
    node_name: str | None
    kubeconfig: str | None


def config_options(
    *file_variables: str,
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add the options of the config file to a command, whose function takes their values first.

    Args:
        file_variables: the environment variables of ``--config-file``.
    """
    options = (
        click.option(
            "--config-file",
            type=PROGRAM,
            envvar=list(file_variables),
            help="Config file of NVIDIA's device plugin, version v1.  [default: none]",
        ),
        click.option(
            "--config-directory",
            type=DIRECTORY,
            envvar="CONFIG_FILE_SRCDIR",
            help="Directory of config files, of which the label of the node chooses one.  "
            "[default: none]",
        ),
        click.option(
            "--config-label",
            type=TEXT,
            envvar="NODE_LABEL",
            default=LABEL,
            show_default=True,
            help="The label whose value is the name of a config file.",
        ),
        click.option(
            "--default-config",
            type=TEXT,
            envvar="DEFAULT_CONFIG",
            default="",
            help="The config file of a node without the label.  [default: as the fallbacks say]",
        ),
        click.option(
            "--config-fallbacks",
            type=Words(FALLBACKS),
            envvar="FALLBACK_STRATEGIES",
            default="named,single",
            show_default=True,
            help="What is used without the label and a default: the file named default, the "
            "single file, or empty: no file.",
        ),
        click.option(
            "--node-name",
            type=TEXT,
            envvar="NODE_NAME",
            help="The name of the node in the cluster; needed for its API server.  [default: none]",
        ),
        click.option(
            "--kubeconfig",
            type=PROGRAM,
            envvar="KUBECONFIG",
            help="Access to the cluster.  [default: the service account of the pod]",
        ),
    )

    def decorate(
        command: Callable[..., int],
    ) -> Callable[..., int]:
        @wraps(command)
        def with_options(
            *,
            config_file: str | None,
            config_directory: str | None,
            config_label: str,
            default_config: str,
            config_fallbacks: tuple[str, ...],
            node_name: str | None,
            kubeconfig: str | None,
            **others: Any,
        ) -> int:
            values = ConfigOptions(
                config_file,
                config_directory,
                config_label,
                default_config,
                config_fallbacks,
                node_name,
                kubeconfig,
            )
            return command(values, **others)

        decorated: Callable[..., int] = with_options
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def end_on_signals() -> None:
    """Let signals end the process until the command handles them.

    A command may wait for the API server first. In a container it is process 1, for which Linux
    discards a signal without a handler: a pod that is deleted would wait for its SIGKILL.
    """
    for number in (signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda number, _frame: os._exit(128 + number))


def require_packages(*modules: str) -> None:
    """Check that modules of the extra ``kubernetes`` are installed.

    Raises:
        CdiGenError: a module is missing.
    """
    from importlib.util import find_spec  # noqa: PLC0415

    # One after the other: find_spec fails for a module in a package that is missing.
    missing = next((name for name in modules if find_spec(name) is None), None)
    if missing:
        raise CdiGenError(
            f"the Python module {missing} is not installed",
            hint="after `make install`: make install EXTRAS=kubernetes; with pip: "
            "cdi-gen[kubernetes]; with a distribution's packages: python3-grpcio, "
            "python3-protobuf, python3-prometheus-client and python3-urllib3",
            code="CDG-N001",
        )


def where_of(settings: Settings, host_root: str) -> Where:
    """Return where the host's facts are searched."""
    from cdi_gen.host import Where  # noqa: PLC0415

    return Where(
        host_root=host_root,
        driver_root=settings.driver_root,
        dev_root=settings.dev_root,
        hook_path=settings.hook_path,
    )
