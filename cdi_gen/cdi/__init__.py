# SPDX-License-Identifier: Apache-2.0
"""The Container Device Interface (CDI): data model, names, versions, file format, validation.

The package implements the standard and contains nothing specific to a vendor. Importing the package
loads the standard library only. The package starts no program and reads no file of the host;
`inject` alone examines device nodes.

>>> from cdi_gen.cdi.wire import dump, load
>>> spec = load(text)           # JSON or YAML; SpecError lists every problem with its path
>>> [device.name for device in spec.devices]
>>> from cdi_gen.cdi.validation import check
>>> for problem in check(spec): ...
>>> from cdi_gen.cdi.inject import inject
>>> config = inject(config, ["nvidia.com/gpu=0"], [spec])
"""
