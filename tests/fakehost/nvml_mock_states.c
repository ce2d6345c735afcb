/* SPDX-License-Identifier: Apache-2.0
 *
 * Modes, limits and licences of GPUs, and what goes through PCIe. Part of nvml_mock.c, which includes
 * this file.
 */

NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, "power_limit_default")
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_generation_max")
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max")
NUMBER(nvmlDeviceGetComputeMode, "compute_mode")
NUMBER(nvmlDeviceGetPersistenceMode, "persistence_mode")

static nvmlReturn_t two_numbers(nvmlDevice_t device, const char *first, const char *second,
                                unsigned *one, unsigned *other)
{
    nvmlReturn_t code = number(device, first, one);
    return code ? code : number(device, second, other);
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned *least,
                                                          unsigned *most)
{
    return two_numbers(device, "power_limit_min", "power_limit_max", least, most);
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    return two_numbers(device, "ecc_mode", "ecc_mode_pending", current, pending);
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, unsigned kind, unsigned *celsius)
{
    static const char *const keys[] = {"temperature_shutdown", "temperature_slowdown",
                                       "temperature_memory_max", "temperature_gpu_max"};
    return kind > 3 ? INVALID_ARGUMENT : number(device, keys[kind], celsius);
}

struct temperature {
    unsigned version, sensor;
    int celsius;
};

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, struct temperature *temperature)
{
    unsigned celsius;
    if (temperature->version != 0x100000C)
        return VERSION_MISMATCH;
    nvmlReturn_t code = number(device, "temperature", &celsius);
    temperature->celsius = (int)celsius;
    return code;
}

struct margin_temperature {
    unsigned version;
    int celsius;
};

nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, struct margin_temperature *margin)
{
    unsigned celsius;
    if (margin->version != 0x1000008)
        return VERSION_MISMATCH;
    nvmlReturn_t code = number(device, "temperature_margin", &celsius);
    margin->celsius = (int)celsius;
    return code;
}

nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, unsigned direction, unsigned *kb)
{
    return direction > 1 ? INVALID_ARGUMENT
                         : number(device, direction ? "pcie_received" : "pcie_sent", kb);
}

struct row_remapper_histogram {
    unsigned max, high, partial, low, none;
};

nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device,
                                               struct row_remapper_histogram *banks)
{
    nvmlReturn_t code = two_numbers(device, "banks_max", "banks_high", &banks->max, &banks->high);
    if (!code)
        code = two_numbers(device, "banks_partial", "banks_low", &banks->partial, &banks->low);
    return code ? code : number(device, "banks_none", &banks->none);
}

struct sram_status {
    unsigned version;
    unsigned long long counts[11];
    unsigned exceeded;
};

nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, struct sram_status *status)
{
    return status->version != 0x1000068 ? VERSION_MISMATCH
                                        : number(device, "sram_exceeded", &status->exceeded);
}

struct licensable_features {
    int supported;
    unsigned count;
    struct {
        unsigned code, state;
        char information[128], product[128];
        unsigned enabled, year;
        unsigned short month, day, hour, minute, second;
        unsigned char status;
    } feature[3];
};

/* The key licensed is the state of the second of two features. Without it there is no licence. */
nvmlReturn_t nvmlDeviceGetGridLicensableFeatures_v4(nvmlDevice_t device,
                                                    struct licensable_features *features)
{
    memset(features, 0, sizeof *features);
    unsigned state;
    nvmlReturn_t code = number(device, "licensed", &state);
    if (code)
        return code == NOT_SUPPORTED ? SUCCESS : code;
    features->supported = 1;
    features->count = 2;
    features->feature[1].state = state;
    return SUCCESS;
}
