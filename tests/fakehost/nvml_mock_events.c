/* SPDX-License-Identifier: Apache-2.0
 *
 * Events, GPU performance monitoring (GPM), remapped rows. Part of nvml_mock.c, which includes
 * this file.
 */

enum { TIMEOUT = 10, GPU_IS_LOST = 15, EVENTS = 0x8 | 0x10 };

struct event_set {
    unsigned last;
    unsigned long long types[MAX_GPUS];
};

struct event_data {
    nvmlDevice_t device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

static unsigned last_event(void)
{
    unsigned last = 0;
    lock_values();
    for (int i = 0; i < now.events; i++)
        if (now.event[i].number > last)
            last = now.event[i].number;
    unlock_values();
    return last;
}

nvmlReturn_t nvmlEventSetCreate(struct event_set **set)
{
    if (!host.users)
        return UNINITIALIZED;
    *set = calloc(1, sizeof **set);
    (*set)->last = last_event();
    event_sets++;
    return SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(struct event_set *set)
{
    free(set);
    event_sets--;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types)
{
    ASK(device);
    struct value value;
    nvmlReturn_t code = value_of(place_of(device), "event_types", &value);
    *types = code ? EVENTS : value.whole;
    return code == NOT_SUPPORTED ? SUCCESS : code;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types,
                                      struct event_set *set)
{
    ASK(device);
    set->types[gpu - host.gpu] |= types;
    return SUCCESS;
}

/* The next event of the set. Events of a MIG device come with the handle of its GPU. */
static int take_event(struct event_set *set, struct event_data *data)
{
    int taken = 0;
    lock_values();
    for (int i = 0; i < now.events && !taken; i++) {
        struct mock_event *event = &now.event[i];
        if (event->number <= set->last || event->device >= MAX_DEVICES)
            continue;
        struct gpu *gpu = &host.gpu[event->device / (MAX_MIGS + 1)];
        unsigned part = event->device % (MAX_MIGS + 1);
        set->last = event->number;
        if (!(set->types[gpu - host.gpu] & event->type))
            continue;
        struct mig *mig = part && part <= (unsigned)gpu->migs ? &gpu->mig[part - 1] : NULL;
        *data = (struct event_data){gpu, event->type, event->data, mig ? mig->gi : ~0u,
                                    mig ? mig->ci : ~0u};
        taken = 1;
    }
    unlock_values();
    return taken;
}

enum { EVENT_STEP_MS = 100 }; /* NVML blocks; to look more often would take more CPU than all else */

nvmlReturn_t nvmlEventSetWait_v2(struct event_set *set, struct event_data *data, unsigned ms)
{
    for (unsigned waited = 0;; waited += EVENT_STEP_MS) {
        if (!host.users)
            return UNINITIALIZED;
        for (int i = 0; i < host.gpus; i++) {
            if (!set->types[i])
                continue;
            lock_values();
            int lost = now.device[i * (MAX_MIGS + 1)].code == GPU_IS_LOST;
            unlock_values();
            if (lost)
                return GPU_IS_LOST;
        }
        if (take_event(set, data))
            return SUCCESS;
        if (waited >= ms)
            return TIMEOUT;
        usleep(EVENT_STEP_MS * 1000);
    }
}

nvmlReturn_t nvmlEventSetWait(struct event_set *set, struct event_data *data, unsigned ms)
{
    return nvmlEventSetWait_v2(set, data, ms);
}

/* ---- GPM: a sample is the place that it was taken of ---- */

struct gpm_sample {
    int place;
    unsigned long long taken;
};

struct gpm_support {
    unsigned version, supported;
};

struct gpm_metric {
    unsigned id;
    nvmlReturn_t code;
    double value;
    const char *short_name, *long_name, *unit;
};

struct gpm_metrics {
    unsigned version, count;
    struct gpm_sample *first, *second;
    struct gpm_metric metric[];
};

nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, struct gpm_support *support)
{
    ASK(device);
    support->supported = gpu->cc_major >= 9;
    return SUCCESS;
}

nvmlReturn_t nvmlGpmSampleAlloc(struct gpm_sample **sample)
{
    *sample = calloc(1, sizeof **sample);
    gpm_samples++;
    return SUCCESS;
}

nvmlReturn_t nvmlGpmSampleFree(struct gpm_sample *sample)
{
    free(sample);
    gpm_samples--;
    return SUCCESS;
}

static nvmlReturn_t take_sample(int place, struct gpm_sample *sample)
{
    struct value value;
    struct timespec clock;
    nvmlReturn_t code = value_of(place, "gpm", &value);
    if (code && code != NOT_SUPPORTED)
        return code;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    sample->place = place;
    sample->taken = (unsigned long long)clock.tv_sec * 1000000 + clock.tv_nsec / 1000;
    return SUCCESS;
}

nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, struct gpm_sample *sample)
{
    ASK(device);
    return gpu->cc_major < 9 || as_mig(device) ? NOT_SUPPORTED
                                               : take_sample(place_of(device), sample);
}

nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned instance, struct gpm_sample *sample)
{
    ASK(device);
    for (int m = 0; m < gpu->migs; m++)
        if (gpu->mig[m].gi == instance && gpu->cc_major >= 9)
            return take_sample(place_of(&gpu->mig[m]), sample);
    return gpu->cc_major < 9 ? NOT_SUPPORTED : INVALID_ARGUMENT;
}

/* The key is gpm_ID. Samples that are not of one device, or not in order, are refused. */
nvmlReturn_t nvmlGpmMetricsGet(struct gpm_metrics *metrics)
{
    calls++;
    if (metrics->version != 1 || !metrics->first || !metrics->second ||
        metrics->first->place != metrics->second->place ||
        metrics->first->taken >= metrics->second->taken)
        return INVALID_ARGUMENT;
    for (unsigned i = 0; i < metrics->count; i++) {
        struct gpm_metric *metric = &metrics->metric[i];
        struct value value;
        char key[40];
        snprintf(key, sizeof key, "gpm_%u", metric->id);
        metric->code = value_of(metrics->first->place, key, &value);
        metric->value = metric->code ? 0 : value.real;
    }
    return SUCCESS;
}

/* ---- rows ---- */

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *correctable,
                                       unsigned *uncorrectable, unsigned *pending, unsigned *failed)
{
    nvmlReturn_t code = number(device, "rows_correctable", correctable);
    if (!code)
        code = number(device, "rows_uncorrectable", uncorrectable);
    if (!code)
        code = number(device, "rows_pending", pending);
    return code ? code : number(device, "rows_failed", failed);
}
