# SPDX-License-Identifier: Apache-2.0
"""The Container Device Interface: its terms, its grammar, its versions and its file form.

This package knows the standard and no vendor. It is pure: it opens no file and starts no program,
and importing it loads nothing beyond the standard library. `inject` alone may look at device nodes.

>>> from cdi_gen.cdi.wire import dump, load
>>> spec = load(text)           # JSON or YAML; SpecError names every fault and its place
>>> [device.name for device in spec.devices]
>>> from cdi_gen.cdi.validation import check
>>> for problem in check(spec): ...
>>> from cdi_gen.cdi.inject import inject
>>> config = inject(config, ["nvidia.com/gpu=0"], [spec])
"""
