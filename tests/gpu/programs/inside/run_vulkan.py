# SPDX-License-Identifier: Apache-2.0
"""The GPUs that the image's Vulkan loader finds."""

import ctypes

import absent

vulkan = absent.library("libvulkan.so.1")
instance = ctypes.c_void_p()
create = (ctypes.c_uint32 * 16)(1)  # VkInstanceCreateInfo, of 64 bytes: its sType is 1
error = vulkan.vkCreateInstance(ctypes.byref(create), None, ctypes.byref(instance))
assert error == 0, f"vkCreateInstance: {error}"
count = ctypes.c_uint32()
assert vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None) == 0
devices = (ctypes.c_void_p * count.value)()
assert vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices) == 0
names = []
for device in devices:
    properties = ctypes.create_string_buffer(4096)
    vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(device), properties)
    # apiVersion, driverVersion, vendorID, deviceID, deviceType, deviceName
    names.append(ctypes.string_at(ctypes.addressof(properties) + 20).decode())
print(names)
assert any("NVIDIA" in name for name in names)
