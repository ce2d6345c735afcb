/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts of GPUs that never change: serial number, versions of VBIOS and InfoROM. Part of
 * nvml_mock.c, which includes this file. As a GeForce, the GPU with minor 7 has none.
 */

static nvmlReturn_t text_of(nvmlDevice_t device, char *into, unsigned size, const char *form)
{
    char text[96];
    ASK(device);
    if (gpu->minor == 7)
        return NOT_SUPPORTED;
    snprintf(text, sizeof text, form, gpu->minor);
    return put(into, size, text);
}

nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned size)
{
    return text_of(device, serial, size, "165022300000%u");
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version, unsigned size)
{
    return text_of(device, version, size, "96.00.61.00.0%u");
}

nvmlReturn_t nvmlDeviceGetInforomImageVersion(nvmlDevice_t device, char *version, unsigned size)
{
    return text_of(device, version, size, "G520.0200.00.0%u");
}

nvmlReturn_t nvmlDeviceGetInforomVersion(nvmlDevice_t device, unsigned object, char *version,
                                         unsigned size)
{
    static const char *const VERSIONS[] = {"2.%u", "6.1%u"};
    return object > 1 ? NOT_SUPPORTED : text_of(device, version, size, VERSIONS[object]);
}
