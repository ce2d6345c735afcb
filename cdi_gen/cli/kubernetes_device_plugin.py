# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen kubernetes device-plugin``."""

from __future__ import annotations

import click

from cdi_gen.cli import console
from cdi_gen.cli.go_flags import GoFlagsCommand
from cdi_gen.cli.host_options import DIRECTORY, FEATURE_FLAGS, PROGRAM, TEXT
from cdi_gen.cli.kubernetes_options import (
    DEV_ROOT,
    DRIVER_ROOT,
    HOST_ROOT,
    ConfigOptions,
    Words,
    config_options,
    require_packages,
)
from cdi_gen.errors import ExitCode
from cdi_gen.kubernetes.settings.model import (
    ALLOCATION_POLICIES,
    DISCOVERY_STRATEGIES,
    ID_STRATEGIES,
    LIST_STRATEGIES,
    MIG_STRATEGIES,
)


@click.command("device-plugin", cls=GoFlagsCommand, short_help="Advertise the GPUs to the kubelet.")
@click.option(
    "--mig-strategy",
    type=click.Choice(MIG_STRATEGIES),
    envvar="MIG_STRATEGY",
    help="How MIG devices are advertised: not at all, as nvidia.com/gpu, or as "
    "nvidia.com/mig-PROFILE.  [default: none]",
)
@click.option(
    "--fail-on-init-error/--no-fail-on-init-error",
    default=None,
    envvar="FAIL_ON_INIT_ERROR",
    help="End if the host has no usable GPU, instead of waiting for one.  [default: wait]",
)
@DRIVER_ROOT
@DEV_ROOT
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
@click.option(
    "--pass-device-specs/--no-pass-device-specs",
    default=None,
    envvar="PASS_DEVICE_SPECS",
    help="Also pass the device nodes to the runtime.  [default: no]",
)
@click.option(
    "--device-list-strategy",
    "list_strategies",
    type=Words(LIST_STRATEGIES),
    envvar="DEVICE_LIST_STRATEGY",
    help="How the runtime learns the devices: envvar, volume-mounts, cdi-annotations, cdi-cri, or "
    "several with commas.  [default: cdi-cri]",
)
@click.option(
    "--device-id-strategy",
    "id_strategy",
    type=click.Choice(ID_STRATEGIES),
    envvar="DEVICE_ID_STRATEGY",
    help="How the runtime is told a device.  [default: uuid]",
)
@click.option(
    "--gdrcopy-enabled/--no-gdrcopy-enabled",
    "gdrcopy",
    default=None,
    envvar="GDRCOPY_ENABLED",
    help="Give every container GDRCopy.  [default: no]",
)
@click.option(
    "--gds-enabled/--no-gds-enabled",
    "gds",
    default=None,
    envvar="GDS_ENABLED",
    help="Give every container GPUDirect Storage.  [default: no]",
)
@click.option(
    "--mofed-enabled/--no-mofed-enabled",
    "mofed",
    default=None,
    envvar="MOFED_ENABLED",
    help="Give every container the RDMA network cards.  [default: no]",
)
@click.option(
    "--cdi-annotation-prefix",
    type=TEXT,
    envvar="CDI_ANNOTATION_PREFIX",
    help="Prefix of the annotation of cdi-annotations.  [default: cdi.k8s.io/]",
)
@click.option(
    "--cdi-root",
    type=DIRECTORY,
    envvar="CDI_ROOT",
    help="Directory of the CDI specs.  [default: /var/run/cdi]",
)
@click.option(
    "--cdi-disable-hooks",
    "disabled_hooks",
    type=Words(),
    envvar="CDI_DISABLE_HOOKS",
    help="Steps of the hook to leave out of the specs; all: all of them.  [default: none]",
)
@click.option("--cdi-feature-flags", type=Words(), envvar="CDI_FEATURE_FLAGS", hidden=True)
@click.option(
    "--nvidia-cdi-hook-path",
    "--nvidia-ctk-path",
    "hook_path",
    type=PROGRAM,
    envvar=["NVIDIA_CDI_HOOK_PATH", "NVIDIA_CTK_PATH"],
    help="Path of the hook program on the host.  [default: the installed cdi-gen-hook]",
)
@click.option(
    "--mps-root",
    type=DIRECTORY,
    envvar="MPS_ROOT",
    help="Directory of the host for the control daemons of MPS.  [default: /run/nvidia/mps]",
)
@click.option(
    "--start-mps-daemons/--no-start-mps-daemons",
    default=True,
    envvar="START_MPS_DAEMONS",
    help="Start the control daemons of MPS, or wait for those of `cdi-gen kubernetes "
    "mps-control-daemon`.  [default: start them]",
)
@click.option(
    "--shared-devices-allocation-policy",
    "allocation_policy",
    type=click.Choice(ALLOCATION_POLICIES),
    envvar="SHARED_DEVICES_ALLOCATION_POLICY",
    help="Spread shared devices over the GPUs, or pack them onto few.  [default: distributed]",
)
@click.option(
    "--device-discovery-strategy",
    "discovery_strategy",
    type=click.Choice(DISCOVERY_STRATEGIES),
    envvar="DEVICE_DISCOVERY_STRATEGY",
    help="Accepted for NVIDIA's command lines; the platform is found from the host.  "
    "[default: auto]",
)
@click.option(
    "--imex-channel-ids",
    type=Words(("0",)),
    envvar="IMEX_CHANNEL_IDS",
    help="IMEX channels for every container: empty or 0.  [default: empty]",
)
@click.option(
    "--imex-required/--no-imex-required",
    default=None,
    envvar="IMEX_REQUIRED",
    help="Do not start without the IMEX channels.  [default: no]",
)
@click.option(
    "--kubelet-socket",
    type=TEXT,
    envvar="KUBELET_SOCKET",
    help="The kubelet's socket; empty: do not register.  "
    "[default: /var/lib/kubelet/device-plugins/kubelet.sock]",
)
@click.option(
    "--metrics-address",
    type=TEXT,
    envvar="METRICS_ADDRESS",
    metavar="[HOST]:PORT",
    help="Serve metrics for Prometheus at this address, for example :9400.  [default: none]",
)
@click.option(
    "--node-events/--no-node-events",
    default=None,
    envvar="NODE_EVENTS",
    help="Create an Event of the node when a device becomes usable or unusable.  "
    "[default: with --node-name]",
)
@config_options("CONFIG_FILE")
def device_plugin(
    config: ConfigOptions,
    *,
    mig_strategy: str | None,
    fail_on_init_error: bool | None,
    driver_root: str | None,
    dev_root: str | None,
    container_driver_root: str | None,
    host_root: str,
    pass_device_specs: bool | None,
    list_strategies: tuple[str, ...] | None,
    id_strategy: str | None,
    gdrcopy: bool | None,
    gds: bool | None,
    mofed: bool | None,
    cdi_annotation_prefix: str | None,
    cdi_root: str | None,
    disabled_hooks: tuple[str, ...] | None,
    cdi_feature_flags: tuple[str, ...] | None,
    hook_path: str | None,
    mps_root: str | None,
    start_mps_daemons: bool,
    allocation_policy: str | None,
    discovery_strategy: str | None,
    imex_channel_ids: tuple[str, ...] | None,
    imex_required: bool | None,
    kubelet_socket: str | None,
    metrics_address: str | None,
    node_events: bool | None,
) -> int:
    """Advertise the GPUs to the kubelet, and tell it what each container gets.

    The flags, variables and the config file are those of NVIDIA's device plugin. A flag wins over a
    variable, a variable over the file. The file is read again when it changes, and at SIGHUP.
    DP_DISABLE_HEALTHCHECKS and DP_ENABLE_HEALTHCHECKS are read as well.
    """
    require_packages("google", "google.protobuf", "grpc")
    _check_feature_flags(cdi_feature_flags or ())
    flags = {
        "mig_strategy": mig_strategy,
        "fail_on_init_error": fail_on_init_error,
        "driver_root": driver_root,
        "dev_root": dev_root,
        "container_driver_root": container_driver_root,
        "pass_device_specs": pass_device_specs,
        "list_strategies": list_strategies,
        "id_strategy": id_strategy,
        "gdrcopy": gdrcopy,
        "gds": gds,
        "mofed": mofed,
        "cdi_annotation_prefix": cdi_annotation_prefix,
        "cdi_root": cdi_root,
        "disabled_hooks": disabled_hooks,
        "hook_path": hook_path,
        "mps_root": mps_root,
        "allocation_policy": allocation_policy,
        "discovery_strategy": discovery_strategy,
        "imex_channel_ids": imex_channel_ids,
        "imex_required": imex_required,
        "kubelet_socket": kubelet_socket,
    }
    from cdi_gen.cli.kubernetes_config import Configuration  # noqa: PLC0415
    from cdi_gen.cli.kubernetes_serving import Serving  # noqa: PLC0415

    serving = Serving(
        Configuration(config),
        flags,
        host_root=host_root,
        starts_mps=start_mps_daemons,
        metrics_address=metrics_address,
        node_events=bool(config.node_name) if node_events is None else node_events,
    )
    serving.run()
    return ExitCode.OK


def _check_feature_flags(flags: tuple[str, ...]) -> None:
    for flag in flags:
        if flag not in FEATURE_FLAGS:
            console.note(f"unknown feature flag {flag}, ignored", code="CDG-U101")
