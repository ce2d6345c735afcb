/* SPDX-License-Identifier: Apache-2.0
 *
 * What GPUs do at the moment: clocks, power, temperature, utilisation, processes. Part of
 * nvml_mock.c, which includes this file. The keys of values are the strings below.
 */

static nvmlReturn_t number(nvmlDevice_t device, const char *key, unsigned *answer)
{
    ASK(device);
    struct value value;
    nvmlReturn_t code = value_of(place_of(device), key, &value);
    if (!code)
        *answer = (unsigned)value.whole;
    return code;
}

static const char *const CLOCKS[] = {"graphics", "sm", "memory", "video"};

static nvmlReturn_t clock_of(nvmlDevice_t device, const char *form, unsigned type, unsigned *mhz)
{
    char key[40];
    if (type > 3)
        return INVALID_ARGUMENT;
    snprintf(key, sizeof key, form, CLOCKS[type]);
    return number(device, key, mhz);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned type, unsigned *mhz)
{
    return clock_of(device, "clock_%s", type, mhz);
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, unsigned type, unsigned *mhz)
{
    return clock_of(device, "clock_%s_max", type, mhz);
}

nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, unsigned type, unsigned *mhz)
{
    return clock_of(device, "clock_%s_app", type, mhz);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *celsius)
{
    return sensor ? INVALID_ARGUMENT : number(device, "temperature", celsius);
}

#define NUMBER(function, key)                                                                      \
    nvmlReturn_t function(nvmlDevice_t device, unsigned *answer)                                   \
    {                                                                                              \
        return number(device, key, answer);                                                        \
    }

NUMBER(nvmlDeviceGetPowerUsage, "power")
NUMBER(nvmlDeviceGetPowerManagementLimit, "power_limit")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "power_limit_enforced")
NUMBER(nvmlDeviceGetFanSpeed, "fan")
NUMBER(nvmlDeviceGetPerformanceState, "performance_state")
NUMBER(nvmlDeviceGetPcieReplayCounter, "pcie_replay")
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation")
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *mj)
{
    ASK(device);
    struct value value;
    nvmlReturn_t code = value_of(place_of(device), "energy", &value);
    if (!code)
        *mj = value.whole;
    return code;
}

struct utilization {
    unsigned gpu, memory;
};

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, struct utilization *rates)
{
    if (is_divided(device))
        return NOT_SUPPORTED;
    nvmlReturn_t code = number(device, "utilization_gpu", &rates->gpu);
    return code ? code : number(device, "utilization_memory", &rates->memory);
}

nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned *percent, unsigned *us)
{
    *us = 167000;
    return number(device, "utilization_encoder", percent);
}

nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned *percent, unsigned *us)
{
    *us = 167000;
    return number(device, "utilization_decoder", percent);
}

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device,
                                                       unsigned long long *reasons)
{
    unsigned low;
    nvmlReturn_t code = number(device, "clock_reasons", &low);
    *reasons = low;
    return code;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device,
                                                    unsigned long long *reasons)
{
    return nvmlDeviceGetCurrentClocksThrottleReasons(device, reasons);
}

/* ---- memory ---- */

struct memory {
    unsigned long long total, free, used;
};

struct memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, struct memory_v2 *memory)
{
    ASK(device);
    struct mig *mig = as_mig(device);
    struct value used = {0}, reserved = {0}, own;
    if (!value_of(place_of(device), "memory_own", &own) && !own.whole)
        return NOT_SUPPORTED; /* it uses the memory of the host, as a GB10 */
    nvmlReturn_t code = value_of(place_of(device), "memory_used", &used);
    value_of(place_of(device), "memory_reserved", &reserved);
    if (code && code != NOT_SUPPORTED)
        return code;
    memory->total = (mig ? mig->mib : gpu->mib) << 20;
    memory->reserved = reserved.whole;
    memory->used = used.whole;
    memory->free = memory->total - memory->reserved - memory->used;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, struct memory *memory)
{
    struct memory_v2 all;
    nvmlReturn_t code = nvmlDeviceGetMemoryInfo_v2(device, &all);
    if (!code)
        *memory = (struct memory){all.total, all.free, all.total - all.free};
    return code;
}

nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, struct memory *memory)
{
    ASK(device);
    struct value total, used = {0};
    nvmlReturn_t code = value_of(place_of(device), "bar1_total", &total);
    value_of(place_of(device), "bar1_used", &used);
    if (!code)
        *memory = (struct memory){total.whole, total.whole - used.whole, used.whole};
    return code;
}

/* ---- processes ---- */

struct process_info_v1 {
    unsigned pid;
    unsigned long long bytes;
};

struct process_info {
    struct process_info_v1 v1;
    unsigned gpu_instance, compute_instance;
};

struct process_detail {
    struct process_info info;
    unsigned long long protected_bytes;
};

/*
 * A GPU lists the processes of its MIG devices too, a MIG device its own. An entry has 24 bytes;
 * 535.54 has entries of 32, and a driver with entries of 16 was seen.
 */
static nvmlReturn_t list_processes(nvmlDevice_t device, char kind, unsigned *count, char *entries)
{
    ASK(device);
    struct value answer;
    int place = place_of(device), whole = !as_mig(device);
    nvmlReturn_t code = value_of(place, "processes", &answer);
    if (code && code != NOT_SUPPORTED)
        return code;
    unsigned size = value_of(place, "process_size", &answer) ? 24 : (unsigned)answer.whole;
    unsigned length = *count, wanted = 0;
    lock_values();
    for (int i = 0; i < now.processes; i++) {
        struct mock_process *p = &now.process[i];
        int part = (int)p->device - place;
        if (p->kind != kind || part < 0 || part > (whole ? gpu->migs : 0))
            continue;
        if (wanted++ >= length)
            continue;
        struct mig *mig = whole ? (part ? &gpu->mig[part - 1] : NULL) : as_mig(device);
        char *entry = entries + (size_t)size * (wanted - 1);
        *(struct process_info_v1 *)entry = (struct process_info_v1){p->pid, p->bytes};
        if (size >= 24) {
            struct process_info *info = (struct process_info *)entry;
            info->gpu_instance = mig ? mig->gi : ~0u;
            info->compute_instance = mig ? mig->ci : ~0u;
        }
        if (size >= 32)
            ((struct process_detail *)entry)->protected_bytes = 0;
    }
    unlock_values();
    *count = wanted;
    return wanted > length ? INSUFFICIENT_SIZE : SUCCESS;
}

#define PROCESSES(function, kind)                                                                  \
    nvmlReturn_t function(nvmlDevice_t device, unsigned *count, void *entries)                     \
    {                                                                                              \
        return list_processes(device, kind, count, entries);                                       \
    }

PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, 'c')
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, 'g')
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, 'm')

struct process_sample {
    unsigned pid;
    unsigned long long timestamp;
    unsigned sm, memory, encoder, decoder;
};

/* A process that is idle has no sample, and without any sample nothing is found: as NVML has it. */
nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, struct process_sample *samples,
                                             unsigned *count, unsigned long long since)
{
    ASK(device);
    if (as_mig(device) || is_divided(device))
        return NOT_SUPPORTED;
    struct value answer;
    struct timespec clock;
    nvmlReturn_t code = value_of(place_of(device), "process_utilization", &answer);
    if (code && code != NOT_SUPPORTED)
        return code;
    clock_gettime(CLOCK_REALTIME, &clock);
    unsigned long long time = (unsigned long long)clock.tv_sec * 1000000 + clock.tv_nsec / 1000;
    unsigned length = samples ? *count : 0, wanted = 0;
    lock_values();
    for (int i = 0; i < now.processes; i++) {
        struct mock_process *p = &now.process[i];
        if ((int)p->device != place_of(device) || p->sm < 0)
            continue;
        if (wanted++ < length)
            samples[wanted - 1] = (struct process_sample){
                p->pid,
                time,
                (unsigned)p->sm,
                (unsigned)p->memory,
                (unsigned)p->encoder,
                (unsigned)p->decoder,
            };
    }
    unlock_values();
    *count = wanted;
    if (!wanted || time <= since)
        return NOT_FOUND;
    return wanted > length ? INSUFFICIENT_SIZE : SUCCESS;
}

/* ---- values of fields ---- */

struct field {
    unsigned id, scope;
    long long timestamp, latency;
    unsigned type;
    nvmlReturn_t code;
    union {
        double real;
        unsigned small;
        int integer;
        unsigned long long large;
    } value;
};

/* The key is field_ID, with @LINK for a link, and @4294967295 for all links together. */
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, struct field *fields)
{
    ASK(device);
    for (int i = 0; i < count; i++) {
        struct field *field = &fields[i];
        struct value value;
        char key[40];
        snprintf(key, sizeof key, field->scope ? "field_%u@%u" : "field_%u", field->id,
                 field->scope);
        memset(&field->value, 0xaa, sizeof field->value);
        field->code = value_of(place_of(device), key, &value);
        if (field->code)
            continue;
        field->type = value.type == 'u' ? 1 : value.type == 'i' ? 5 : value.type == 'd' ? 0 : 3;
        if (value.type == 'u')
            field->value.small = (unsigned)value.whole;
        else if (value.type == 'i')
            field->value.integer = (int)value.real;
        else if (value.type == 'd')
            field->value.real = value.real;
        else
            field->value.large = value.whole;
    }
    return SUCCESS;
}
