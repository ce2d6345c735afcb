# SPDX-License-Identifier: Apache-2.0
"""A fleet: many hosts and many images, the verdict for each pair, and the forms of the result.

``inventories`` and ``image_list`` read the inputs, ``matrix`` decides, ``pin`` compares with a lock
file. ``text``, ``document``, ``spreadsheet``, ``junit`` and ``page`` are the forms. Equal inputs
give equal text: no form has a time, a path or a random number.
"""
