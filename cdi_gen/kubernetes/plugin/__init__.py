# SPDX-License-Identifier: Apache-2.0
"""The device plugin: a gRPC server for each resource, and the loop that keeps them right.

``supervisor`` compares what the node should advertise with what the servers do, and changes that.
``server`` answers the kubelet, ``registration`` calls it, ``specs`` writes the CDI specs.
"""
