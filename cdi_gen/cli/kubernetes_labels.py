# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen kubernetes labels``."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from cdi_gen.cli import console
from cdi_gen.cli.go_flags import GoFlagsCommand
from cdi_gen.cli.host_options import DIRECTORY, TEXT
from cdi_gen.cli.kubernetes_config import Configuration
from cdi_gen.cli.kubernetes_options import (
    DRIVER_ROOT,
    HOST_ROOT,
    ConfigOptions,
    config_options,
    require_packages,
    where_of,
)
from cdi_gen.errors import CdiGenError, ExitCode
from cdi_gen.kubernetes.settings.model import LABEL_DISCOVERY_STRATEGIES, MIG_STRATEGIES

if TYPE_CHECKING:
    from cdi_gen.kubernetes.labels.outputs import Output
    from cdi_gen.kubernetes.labels.settings import LabelSettings


@click.command(
    "labels", cls=GoFlagsCommand, short_help="Label the node with the properties of its GPUs."
)
@click.option(
    "--mig-strategy",
    type=click.Choice(MIG_STRATEGIES),
    envvar=["GFD_MIG_STRATEGY", "MIG_STRATEGY"],
    help="How the device plugin advertises MIG devices.  [default: none]",
)
@click.option(
    "--fail-on-init-error/--no-fail-on-init-error",
    default=None,
    envvar=["GFD_FAIL_ON_INIT_ERROR", "FAIL_ON_INIT_ERROR"],
    help="End if the host has no usable driver, instead of waiting for one.  "
    "[default: with --oneshot]",
)
@click.option(
    "--oneshot/--no-oneshot",
    default=None,
    envvar="GFD_ONESHOT",
    help="Publish the labels once and end.  [default: no]",
)
@click.option(
    "--no-timestamp/--timestamp",
    "no_timestamp",
    default=None,
    envvar="GFD_NO_TIMESTAMP",
    help="Leave out the label nvidia.com/gfd.timestamp.  [default: no]",
)
@click.option(
    "--sleep-interval",
    type=TEXT,
    envvar="GFD_SLEEP_INTERVAL",
    help="Time until the labels are published again: 60s, 1m30s. They are also published when the "
    "host has changed. infinite: once only, and wait.  [default: 60s]",
)
@click.option(
    "-o",
    "--output-file",
    "--output",
    "output_file",
    type=TEXT,
    envvar="GFD_OUTPUT_FILE",
    help="Write the labels to this file for Node Feature Discovery; -: print them.  [default: "
    "/etc/kubernetes/node-feature-discovery/features.d/gfd, with --no-use-node-feature-api]",
)
@click.option(
    "--machine-type-file",
    type=TEXT,
    envvar="GFD_MACHINE_TYPE_FILE",
    help="File with the product name of the machine.  [default: "
    "/sys/class/dmi/id/product_name of the host]",
)
@click.option(
    "--use-node-feature-api/--no-use-node-feature-api",
    "node_feature_api",
    default=None,
    envvar=["GFD_USE_NODE_FEATURE_API", "USE_NODE_FEATURE_API"],
    help="Publish a NodeFeature object for Node Feature Discovery.  [default: without "
    "--output-file and --patch-node]",
)
@click.option(
    "--patch-node/--no-patch-node",
    default=None,
    envvar="PATCH_NODE",
    help="Write the labels to the node, without Node Feature Discovery.  [default: no]",
)
@click.option(
    "--namespace",
    type=TEXT,
    envvar="NAMESPACE",
    help="Namespace of the NodeFeature object.  [default: that of the pod]",
)
@click.option(
    "--pod-name",
    type=TEXT,
    envvar="POD_NAME",
    help="The name of this pod; with it and its DaemonSet the NodeFeature object is removed.  "
    "[default: none]",
)
# Three requests a minute need no limit: accepted for NVIDIA's command lines.
@click.option("--kube-api-qps", type=float, expose_value=False, hidden=True)
@click.option("--kube-api-burst", type=int, expose_value=False, hidden=True)
@click.option(
    "--device-discovery-strategy",
    "discovery_strategy",
    type=click.Choice(LABEL_DISCOVERY_STRATEGIES),
    envvar="DEVICE_DISCOVERY_STRATEGY",
    help="nvml: ask NVML; tegra: ask CUDA; auto: one of them, by the platform; vfio: read sysfs, "
    "for the GPUs that are passed through to virtual machines.  [default: auto]",
)
@DRIVER_ROOT
@click.option(
    "--driver-root-ctr-path",
    "--container-driver-root",
    "container_driver_root",
    type=DIRECTORY,
    envvar=["DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"],
    help="Accepted for NVIDIA's command lines, without effect; the driver root is searched below "
    "--host-root.  [default: none]",
)
@HOST_ROOT
@config_options("GFD_CONFIG_FILE", "CONFIG_FILE")
def command(
    config: ConfigOptions,
    *,
    mig_strategy: str | None,
    fail_on_init_error: bool | None,
    oneshot: bool | None,
    no_timestamp: bool | None,
    sleep_interval: str | None,
    output_file: str | None,
    machine_type_file: str | None,
    node_feature_api: bool | None,
    patch_node: bool | None,
    namespace: str | None,
    pod_name: str | None,
    driver_root: str | None,
    container_driver_root: str | None,
    discovery_strategy: str | None,
    host_root: str,
) -> int:
    """Label the node with the properties of its GPUs: model, memory, versions, sharing, MIG.

    The labels, flags, variables and the config file are those of NVIDIA's gpu-feature-discovery. A
    flag wins over a variable, a variable over the file.
    """
    plugin_flags = {
        "mig_strategy": mig_strategy,
        "driver_root": driver_root,
        "container_driver_root": container_driver_root,
        "discovery_strategy": discovery_strategy,
    }
    label_flags = {
        "fail_on_init_error": fail_on_init_error,
        "oneshot": oneshot,
        "no_timestamp": no_timestamp,
        "sleep_interval": sleep_interval,
        "output_file": output_file,
        "machine_type_file": machine_type_file,
        "node_feature_api": node_feature_api,
        "patch_node": patch_node,
        "node_name": config.node_name,
        "namespace": namespace,
        "pod_name": pod_name,
        "kubeconfig": config.kubeconfig,
    }
    configuration = Configuration(config)
    settings: LabelSettings | None = None
    output: Output | None = None
    signals = Signals()
    while True:
        try:
            signals.take()
            settings = _reloaded(settings, configuration, plugin_flags, label_flags)
            is_first = output is None
            output = _output(settings)
            if not settings.oneshot and is_first:
                signals.follow()
                configuration.follow(lambda: os.kill(os.getpid(), signal.SIGHUP))
            _serve(settings, output, host_root)
        except Interruption as interruption:
            if interruption.number == signal.SIGHUP:
                continue
            if output is not None:
                output.withdraw()
        return ExitCode.OK


class Interruption(BaseException):
    """A signal has arrived. It is an exception, so that it also ends a probe or a request."""

    def __init__(self, number: int) -> None:
        self.number = number


class Signals:
    """Raises an `Interruption` for a signal; the next one waits until `take`."""

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self._is_raised = False

    def follow(self) -> None:
        """Handle signals from now on."""
        gc.enable()  # the main function disables it, for commands that take 50 ms
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def take(self) -> None:
        """Raise the interruptions that come from now on, and first one that waits."""
        self._is_raised = False
        if self._waiting:
            # The end counts more than any number of reloads.
            number = next((n for n in self._waiting if n != signal.SIGHUP), signal.SIGHUP)
            self._waiting.clear()
            self._handle(number, None)

    def _handle(self, number: int, _frame: object) -> None:
        if self._is_raised:
            self._waiting.append(number)
        else:
            self._is_raised = True
            raise Interruption(number)


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def _reloaded(
    before: LabelSettings | None,
    configuration: Configuration,
    plugin_flags: Mapping[str, object],
    label_flags: Mapping[str, object],
) -> LabelSettings:
    """Return the settings; those of before if they are not valid any more."""
    try:
        return _settings(configuration, plugin_flags, label_flags)
    except CdiGenError as error:
        if before is None:
            raise
        message = f"the settings stay as they are: {error.message}"
        console.warning(message, code=error.code, hint=error.hint or "", subject=error.subject)
        return before


def _serve(settings: LabelSettings, output: Output, host_root: str) -> None:
    """Publish the labels, once or until a signal ends that."""
    from cdi_gen.catalogue import catalogue  # noqa: PLC0415
    from cdi_gen.kubernetes.labels.loop import Labeller  # noqa: PLC0415
    from cdi_gen.kubernetes.probe import ThisHost  # noqa: PLC0415
    from cdi_gen.programs import watch  # noqa: PLC0415

    where = where_of(settings.plugin, host_root)
    discovery = settings.plugin.discovery_strategy
    host = ThisHost(where, watch.of_catalogue(catalogue()), discovery)
    labeller = Labeller(settings, host, output, console.report, time.time())
    if settings.oneshot:
        labeller.publish_once()
    else:
        labeller.run()


def _settings(
    configuration: Configuration,
    plugin_flags: Mapping[str, object],
    label_flags: Mapping[str, object],
) -> LabelSettings:
    from cdi_gen.kubernetes.labels.settings import label_settings  # noqa: PLC0415
    from cdi_gen.kubernetes.settings.merge import combined  # noqa: PLC0415

    content = configuration.read()
    file: dict[str, object] = {}
    if content is not None:
        keys = ("fail_on_init_error",)
        file = content.labels | {key: content.flags[key] for key in keys if key in content.flags}
    return label_settings(combined(plugin_flags, content), label_flags, file)


def _output(settings: LabelSettings) -> Output:
    from cdi_gen.kubernetes.labels import outputs  # noqa: PLC0415
    from cdi_gen.kubernetes.labels.settings import FEATURE_FILE, STANDARD_OUTPUT  # noqa: PLC0415

    if not settings.uses_api:
        path = FEATURE_FILE if settings.output_file is None else settings.output_file
        if path in STANDARD_OUTPUT:
            return outputs.StandardOutput()
        keeps = settings.oneshot or settings.sleep_interval is None
        return outputs.FeatureFile(path, temporary=not keeps)
    require_packages("urllib3")
    from cdi_gen.kubernetes.access import find_access  # noqa: PLC0415
    from cdi_gen.kubernetes.api import Api  # noqa: PLC0415

    access = find_access(settings.kubeconfig)
    api = Api(access)
    if settings.patch_node:
        return outputs.NodeLabels(api, settings.node_name)
    namespace = settings.namespace or access.namespace
    return outputs.NodeFeature(
        api, settings.node_name, namespace, settings.pod_name, console.report
    )
