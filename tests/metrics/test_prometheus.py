# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes `cdi-gen metrics` on fake hosts, whose NVML answers what a test tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from tests.fakehost.hosts import FakeHost
from tests.fakehost.nvml_values import NvmlValues, set_typical
from tests.lab import prometheus
from tests.metrics import dashboard
from tests.metrics.scraping import configuration, own_labels, values
from tests.metrics.serving import Authority
from tests.metrics.test_command import metrics

Hosts = Callable[[str], FakeHost]
Programs = Callable[[str], Path]

REFERENCE = json.loads(Path(__file__).with_name("dcgm_exporter.json").read_text("utf-8"))
FAST = ("--listen", "127.0.0.1:0", "--interval", "1s", "--hostname", "gpu1.example.com")


def reference(names: str) -> dict[str, tuple[str, float | None]]:
    """Return the type and the value of each default field of dcgm-exporter under a set of names."""
    if names == "old":
        return {field["old"]: (field["type"], field["told"]) for field in REFERENCE["fields"]}
    fields = {
        field["new"]: (
            field["type"],
            None if field["told"] is None else field["told"] * field["new_per_old"],
        )
        for field in REFERENCE["fields"]
    }
    only_new = {field["new"]: (field["type"], field["told"]) for field in REFERENCE["only_new"]}
    return fields | only_new


@pytest.mark.parametrize("names", ["old", "new"])
def test_default_fields_are_those_of_dcgm_exporter(
    names: str, own_host: Hosts, prometheus_of: Programs, tmp_path: Path
) -> None:
    """Name, type, unit (by the value) and labels; what NVML does not tell is absent."""
    prometheus_of(prometheus.NEWEST)
    fake = own_host("550-1gpu")
    told = NvmlValues(fake.nvml)
    set_typical(told, "0")
    fields = reference(names)
    with ExitStack() as stack:
        program = stack.enter_context(metrics(fake.root, *FAST, "--names", names))
        address = f"127.0.0.1:{program.port()}"
        server = stack.enter_context(prometheus.running(configuration(address), tmp_path))
        server.wait_for("cdi_gen_metrics_up == 1")
        told.raise_xid("0", 31)
        server.wait_for('{__name__=~"DCGM_FI_DEV_XID_ERRORS?"} == 31')
        server.wait_for('{__name__=~"DCGM_FI_PROF_PCIE_TX_BYTES"}')
        metadata = server.metadata()
        for name, (type_, value) in fields.items():
            samples = server.query(name)
            if value is None:
                assert not samples, name
                continue
            (sample,) = samples
            assert sample.value == pytest.approx(value, rel=1e-6), name
            assert metadata[name]["type"] == type_, name
            of_error = {"err_code": "31"} if "XID" in name else {}
            labels = {key: text for key, text in own_labels(sample).items() if key != "err_msg"}
            assert labels == labels_of_gpu(fake, names) | of_error, name
    other = reference("new" if names == "old" else "old").keys() - fields.keys()
    assert not other & metadata.keys()


def labels_of_gpu(fake: FakeHost, names: str) -> dict[str, str]:
    """Return dcgm-exporter's labels of GPU 0."""
    hostname, driver = {
        "old": ("Hostname", "DCGM_FI_DRIVER_VERSION"),
        "new": ("hostname", "DCGM_FI_SYSTEM_DRIVER_VERSION"),
    }[names]
    gpu = fake.kernel.gpus[0]
    return {
        "gpu": "0",
        "UUID": gpu.uuid,
        "pci_bus_id": f"0000{gpu.pci_address}".upper(),
        "device": "nvidia0",
        "modelName": gpu.model.name,
        hostname: "gpu1.example.com",
        driver: fake.driver_version,
    }


def test_two_hosts_with_different_names_and_mig_devices(
    own_host: Hosts, prometheus_of: Programs, tmp_path: Path
) -> None:
    """The panels about GPUs show both hosts, and each MIG device."""
    prometheus_of(prometheus.NEWEST)
    old, new = own_host("550-1gpu"), own_host("550-mig-mixed")
    set_typical(NvmlValues(old.nvml), "0")
    mig = NvmlValues(new.nvml)
    for gpu in ("0", "1"):
        set_typical(mig, gpu)
    for number, gib in enumerate((1, 1, 1, 2)):  # three in one GPU instance, and one
        mig.set(f"1:{number}", memory_used=gib << 30)
    with ExitStack() as stack:
        ports = [
            stack.enter_context(metrics(fake.root, *FAST, "--names", names)).port()
            for fake, names in ((old, "old"), (new, "new"))
        ]
        targets = [f"127.0.0.1:{ports[0]}", f"localhost:{ports[1]}"]
        scraped = configuration("", static_configs=[{"targets": targets}])
        server = stack.enter_context(prometheus.running(scraped, tmp_path))
        both = {("127.0.0.1",), ("localhost",)}
        server.wait_for("count(cdi_gen_metrics_up == 1) == 2")
        for query in dashboard.queries():
            if query.panel in {"Temperature", "Power", "SM clock", "Utilization", "Memory used"}:
                server.wait_for(f"count(group by (instance) ({query.expression})) == 2")
                assert values(server, query.expression, "instance").keys() == both
        (memory,) = [query for query in dashboard.queries() if query.panel == "Memory used"]
        names = ("instance", "gpu", "GPU_I_PROFILE", "GPU_I_ID")
        used = values(server, memory.expression, *names)
        of_mig = {key: value for key, value in used.items() if key[2]}
        assert of_mig == {
            ("localhost", "1", "3g.20gb", "2"): 1 << 30,
            ("localhost", "1", "1g.5gb", "9"): 2 << 30,
        }


def test_tls_and_password(own_host: Hosts, prometheus_of: Programs, tmp_path: Path) -> None:
    """As in deploy/monitoring/prometheus/hosts.yml; with a wrong password nothing is scraped."""
    prometheus_of(prometheus.NEWEST)
    fake = own_host("550-1gpu")
    set_typical(NvmlValues(fake.nvml), "0")
    authority = Authority(tmp_path)
    certificate, key = authority.certificate("server", "IP:127.0.0.1")
    digest = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    web_config = tmp_path / "web.yml"
    tls = {"cert_file": str(certificate), "key_file": str(key)}
    web_config.write_text(
        json.dumps({"tls_server_config": tls, "basic_auth_users": {"prometheus": digest}})
    )
    passwords = {"cdi-gen": "secret", "wrong": "guess"}
    for name, password in passwords.items():
        (tmp_path / name).write_text(password)

    def job(port: int, name: str) -> dict[str, Any]:
        user = {"username": "prometheus", "password_file": str(tmp_path / name)}
        trust = {"ca_file": str(authority.ca)}
        address = f"127.0.0.1:{port}"
        options: dict[str, Any] = {"scheme": "https", "tls_config": trust, "basic_auth": user}
        jobs = configuration(address, job_name=name, **options)["scrape_configs"]
        return dict(jobs[0])

    with metrics(fake.root, *FAST, "--web-config", str(web_config)) as program:
        jobs = [job(program.port(), name) for name in passwords]
        scraped = configuration("") | {"scrape_configs": jobs}
        with prometheus.running(scraped, tmp_path) as server:
            server.wait_for('up{job="cdi-gen"} == 1')
            server.wait_for('DCGM_FI_DEV_GPU_TEMP{job="cdi-gen"} == 61')
            server.wait_for('up{job="wrong"} == 0')
            errors = {target["scrapePool"]: target["lastError"] for target in server.targets()}
            assert errors["cdi-gen"] == ""
            assert "401" in errors["wrong"]


def test_host_without_a_driver_says_so(
    own_host: Hosts, prometheus_of: Programs, tmp_path: Path
) -> None:
    """The scrape succeeds, so that the cause is known; no series says that a GPU does nothing."""
    prometheus_of(prometheus.NEWEST)
    fake = own_host("550-unloaded")
    with (
        metrics(fake.root, *FAST) as program,
        prometheus.running(configuration(f"127.0.0.1:{program.port()}"), tmp_path) as server,
    ):
        server.wait_for("cdi_gen_metrics_up == 0")
        server.wait_for('ALERTS{alertname="CdiGenNvmlUnavailable", alertstate="pending"}')
        assert not server.query('{__name__=~"DCGM_.+"}')
        assert not server.query("up != 1")


def test_textfile_by_node_exporter(
    own_host: Hosts, prometheus_of: Programs, tmp_path: Path
) -> None:
    """Node_exporter rejects a file that repeats a family or has a wrong line."""
    prometheus_of(prometheus.NEWEST)
    fake = own_host("550-1gpu")
    set_typical(NvmlValues(fake.nvml), "0")
    directory = tmp_path / "textfiles"
    directory.mkdir()
    options = ("--textfile", str(directory / "cdi-gen.prom"), "--interval", "1s")
    with (
        metrics(fake.root, *options, "--names", "both"),
        prometheus.node_exporter(directory) as port,
        prometheus.running(configuration(f"127.0.0.1:{port}"), tmp_path) as server,
    ):
        server.wait_for("DCGM_FI_DEV_GPU_TEMP == 61")
        server.wait_for("DCGM_FI_DEV_GPU_TEMP_CELSIUS == 61")
        (error,) = server.query("node_textfile_scrape_error")
        assert error.value == 0
