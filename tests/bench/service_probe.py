# SPDX-License-Identifier: Apache-2.0
"""Looks at a service from beside it: CPU, memory, descriptors, scrapes. Standard library only.

    service_probe.py loopback                 let this network have a loopback device
    service_probe.py wait PID                 until /healthz answers with 200
    service_probe.py state PID                one look
    service_probe.py idle PID SECONDS         two looks, and the CPU between them
    service_probe.py scrapes PID COUNT [gzip] the times of scrapes, and their CPU
    service_probe.py text                     the text of a scrape
    service_probe.py load SECONDS ENCODING    scrape all the time, and note it in a file
    service_probe.py loads                    what these files say

The answer is a line of JSON.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import socket
import struct
import sys
import time
from pathlib import Path

PROBE = Path(__file__)
HOST, PORT = "127.0.0.1", 9400
PATIENCE = 120
LOADS = Path("/run")
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: str) -> tuple[float, float]:
    """Seconds of CPU of a process, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / TICKS, sum(map(int, fields[13:15])) / TICKS


def state(pid: str) -> dict[str, float]:
    """Memory in KiB, descriptors, threads and children of a process."""
    text = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    status = dict(line.split(":", 1) for line in text.splitlines())
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    sizes = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
    children = Path(f"/proc/{pid}/task/{pid}/children")
    own, of_children = cpu_seconds(pid)
    return {
        "rss": int(status["VmRSS"].split()[0]),
        "peak": int(status["VmHWM"].split()[0]),
        "pss": int(sizes["Pss"].split()[0]),
        "anonymous": int(status["RssAnon"].split()[0]),
        "threads": int(status["Threads"]),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "children": len(children.read_text("ascii").split()) if children.exists() else 0,
        "cpu": own,
        "cpu_of_children": of_children,
        "time": time.monotonic(),
    }


def get(path: str, encoding: str = "identity") -> tuple[int, bytes]:
    """Return status and body of an answer, on a connection of its own, as Prometheus asks."""
    connection = http.client.HTTPConnection(HOST, PORT, timeout=30)
    try:
        connection.request("GET", path, headers={"Accept-Encoding": encoding})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def start_loopback() -> None:
    """Start the loopback device of a new network."""
    up_and_running, set_flags = 0x41, 0x8914
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", up_and_running))


def wait(pid: str) -> dict[str, float]:
    """Wait until the service is healthy."""
    started = time.monotonic()
    while time.monotonic() < started + PATIENCE:
        if not os.path.exists(f"/proc/{pid}/fd"):
            sys.exit("the service has ended")
        try:
            if get("/healthz")[0] == 200:
                return {"seconds": time.monotonic() - started}
        except OSError:
            pass
        time.sleep(0.01)
    sys.exit("the service does not become healthy")


def idle(pid: str, seconds: float) -> dict[str, object]:
    """Return two looks, so many seconds apart."""
    before = state(pid)
    time.sleep(seconds)
    after = state(pid)
    return {"before": before, "after": after}


def scrapes(pid: str, count: int, encoding: str) -> dict[str, object]:
    """Return the times of scrapes in seconds, and the mean CPU of the service for one."""
    times = []
    size = 0
    before, _ = cpu_seconds(pid)
    for _ in range(count):
        started = time.perf_counter()
        status, body = get("/metrics", encoding)
        times.append(time.perf_counter() - started)
        if status != 200:
            sys.exit(f"a scrape is answered with {status}")
        size = len(body)
    cpu = (cpu_seconds(pid)[0] - before) / count
    return {"seconds": sorted(times), "bytes": size, "cpu": cpu}


def load(seconds: float, encoding: str) -> None:
    """Scrape four times a second, and keep the times of the last 1,000 scrapes."""
    path = LOADS / f"load-{encoding}.json"
    end = time.monotonic() + seconds
    times: list[float] = []
    numbers = {"scrapes": 0, "failed": 0, "slowest": 0.0}
    while time.monotonic() < end:
        started = time.monotonic()
        try:
            is_answered = get("/metrics", encoding)[0] == 200
        except OSError:
            is_answered = False
        taken = time.monotonic() - started
        times = [*times[-999:], taken]
        numbers["scrapes"] += 1
        numbers["failed"] += not is_answered
        numbers["slowest"] = max(numbers["slowest"], taken)
        if numbers["scrapes"] % 8 == 0:
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(numbers | {"times": times}), "ascii")
            temporary.replace(path)
        time.sleep(0.25)


def loads() -> dict[str, float]:
    """Return what the programs that scrape have noted, together."""
    documents = [json.loads(path.read_text("ascii")) for path in LOADS.glob("load-*.json")]
    times = sorted(taken for document in documents for taken in document["times"])
    return {
        "scrapes": sum(document["scrapes"] for document in documents),
        "failed": sum(document["failed"] for document in documents),
        "slowest": max((document["slowest"] for document in documents), default=0.0),
        "p99": times[len(times) * 99 // 100] if times else 0.0,
    }


def main() -> None:
    """Answer a question."""
    question, *words = sys.argv[1:]
    answer: object
    if question == "loopback":
        start_loopback()
        answer = {}
    elif question == "wait":
        answer = wait(words[0])
    elif question == "state":
        answer = state(words[0])
    elif question == "idle":
        answer = idle(words[0], float(words[1]))
    elif question == "scrapes":
        answer = scrapes(words[0], int(words[1]), words[2] if words[2:] else "identity")
    elif question == "load":
        load(float(words[0]), words[1])
        answer = loads()
    elif question == "loads":
        answer = loads()
    else:
        answer = {"text": get("/metrics")[1].decode()}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
