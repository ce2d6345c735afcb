# SPDX-License-Identifier: Apache-2.0
"""Answers GetPreferredAllocation: which of the available devices a container should get.

Whole GPUs: the set whose pairs are closest, by PCIe and NVLink. Among equally close sets the one
that separates the fewest close pairs from the rest, so that a request for one GPU or three does not
split a pair that a later request could use. Replicas and MIG devices: spread over the GPUs or
packed onto few of them, as the allocation policy says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import comb
from operator import itemgetter

from cdi_gen.kubernetes.resources.device import Device, Resource, device_name
from cdi_gen.kubernetes.resources.links import Scores
from cdi_gen.kubernetes.settings.model import AllocationPolicy

MAX_SETS = 20_000
"""The number of sets that are compared one by one: all sets of 8 of 16 GPUs are 12,870."""


def preferred(
    available: Sequence[str],
    required: Sequence[str],
    size: int,
    resource: Resource,
    scores: Scores,
    policy: AllocationPolicy = "distributed",
) -> tuple[str, ...]:
    """Return the ids of the ``size`` devices that a container should get, the required ones first.

    Args:
        available: the ids that the kubelet may choose from; it includes the required ones.
        required: the ids that the kubelet has chosen already.
        size: how many devices the container requests.
        resource: the resource that is requested.
        scores: how close two GPUs are.
        policy: whether replicas are spread over GPUs or packed onto few.

    Ids that the resource does not have are ignored; fewer ids than ``size`` are returned if there
    are not enough.
    """
    devices = resource.by_id
    candidates = {name: devices[name] for name in available if name in devices}
    taken = [name for name in dict.fromkeys(required) if name in candidates][:size]
    free = [name for name in candidates if name not in taken]
    missing = min(size - len(taken), len(free))
    if missing <= 0:
        return tuple(taken)
    whole = not any(device.mig or device.replica is not None for device in candidates.values())
    if whole and missing < len(free):
        return (*taken, *_closest(taken, free, missing, candidates, scores))
    if whole:
        return (*taken, *free)
    return (*taken, *_balanced(taken, free, missing, resource, policy))


def _closest(
    taken: Sequence[str],
    free: Sequence[str],
    missing: int,
    devices: dict[str, Device],
    scores: Scores,
) -> Sequence[str]:
    """Return the free devices that are closest to each other and to the taken ones."""
    names = sorted(free, key=lambda name: devices[name].gpu_index)
    indices = [devices[name].gpu_index for name in (*taken, *names)]
    matrix = [[scores.of(first, second) for second in indices] for first in indices]
    fixed, rest = range(len(taken)), range(len(taken), len(indices))
    if comb(len(rest), missing) <= MAX_SETS:
        chosen = _best_set(fixed, rest, missing, matrix)
    else:
        chosen = _grown_set(fixed, rest, missing, matrix)
    return [names[number - len(taken)] for number in chosen]


def _best_set(
    fixed: Sequence[int], rest: Sequence[int], missing: int, matrix: list[list[int]]
) -> tuple[int, ...]:
    """Return the set with the closest pairs; among equals, the one that separates the fewest.

    The pairs that a set separates from the rest weigh the totals of its GPUs less twice the pairs
    inside, so among sets with equal insides the one with the smallest totals wins.
    """
    totals = [sum(row) for row in matrix]
    best: tuple[int, int] | None = None
    best_set: tuple[int, ...] = ()
    for candidate in combinations(rest, missing):
        members = (*fixed, *candidate)
        inside = 0
        for position, first in enumerate(members):
            row = matrix[first]
            for second in members[position + 1 :]:
                inside += row[second]
        value = (inside, -sum([totals[number] for number in candidate]))
        if best is None or value > best:
            best, best_set = value, candidate
    return best_set


def _grown_set(
    fixed: Sequence[int], rest: Sequence[int], missing: int, matrix: list[list[int]]
) -> tuple[int, ...]:
    """Return a good set where there are too many, which needs a host with more than 16 GPUs.

    It is grown from each GPU, by the GPU or the pair that adds most for each GPU.
    """
    best: tuple[int, tuple[int, ...]] = (-1, ())
    for start in rest:
        left = [number for number in rest if number != start]
        chosen, inside = [start], sum(matrix[start][number] for number in fixed)
        gain = {
            number: sum(matrix[number][member] for member in (*fixed, start)) for number in left
        }
        while len(chosen) < missing:
            steps: list[tuple[int, int, tuple[int, ...]]] = [
                (2 * gain[number], gain[number], (number,)) for number in left
            ]
            if missing - len(chosen) > 1:
                steps += [
                    (value, value, pair)
                    for pair in combinations(left, 2)
                    for value in [gain[pair[0]] + gain[pair[1]] + matrix[pair[0]][pair[1]]]
                ]
            _, added, step = max(steps, key=itemgetter(0))
            chosen += step
            inside += added
            left = [number for number in left if number not in step]
            for number in left:
                gain[number] += sum(matrix[number][member] for member in step)
        if inside > best[0]:
            best = (inside, tuple(sorted(chosen)))
    return best[1]


def _balanced(
    taken: Sequence[str],
    free: Sequence[str],
    missing: int,
    resource: Resource,
    policy: AllocationPolicy,
) -> list[str]:
    """Return free devices from the GPUs with the fewest or the most allocated replicas.

    A container gets replicas of different GPUs as long as there are any.
    """
    unused = Counter(map(device_name, free))
    allocated = Counter(device_name(device.id) for device in resource.devices)
    allocated.subtract(unused)
    in_request = Counter(map(device_name, taken))
    sign = 1 if policy == "distributed" else -1
    order = {device.id: position for position, device in enumerate(resource.devices)}
    left = sorted(free, key=order.__getitem__)
    chosen: list[str] = []
    while len(chosen) < missing:
        name = min(
            left,
            key=lambda name: (
                in_request[device_name(name)],
                sign * allocated[device_name(name)],
                order[name],
            ),
        )
        left.remove(name)
        chosen.append(name)
        allocated[device_name(name)] += 1
        in_request[device_name(name)] += 1
    return chosen
