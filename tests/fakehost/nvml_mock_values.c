/* SPDX-License-Identifier: Apache-2.0
 *
 * Values that change while programs run. Part of nvml_mock.c, which includes this file.
 *
 * The text is $NVML_MOCK_VALUES, or nvml-mock.values beside the library. It is read again when it
 * was replaced. DEVICE is an NVML index, INDEX:MIG-INDEX, or * for what is of no device. A line is
 * one of
 *
 *   DEVICE KEY VALUE    KEY names an answer: see the functions that ask for it. VALUE is a number, or
 *                       E and the NVML code that the question is answered with. A letter after the
 *                       number is the type of a field's value: u unsigned int, i int, d double; none
 *                       is unsigned long long.
 *   DEVICE state hang   questions about the GPU are not answered before this line is gone
 *   DEVICE state E15    questions about the GPU are answered with this code; * is for all questions;
 *                       a MIG device with E6 does not exist
 *   DEVICE mig_mode 1   MIG is enabled, whatever nvml-mock.host says; 0: it is not
 *   DEVICE process PID KIND BYTES SM MEMORY ENCODER DECODER     KIND is compute, graphics or mps;
 *                       -1 for BYTES: not told; -1 for SM: there is no sample of the process
 *   DEVICE event NUMBER TYPE DATA      an event, with numbers that rise
 *
 * A question whose answer is in no line is not supported.
 */

enum { MAX_DEVICES = MAX_GPUS * (MAX_MIGS + 1), NO_DEVICE = MAX_DEVICES };

struct value {
    char key[40], type;
    int code;
    double real;
    unsigned long long whole;
};

struct mock_process {
    unsigned device, pid;
    char kind;
    long long bytes;
    int sm, memory, encoder, decoder;
};

struct mock_event {
    unsigned device, number;
    unsigned long long type, data;
};

static struct {
    pthread_mutex_t lock;
    struct stat file;
    struct {
        struct value *value;
        int count, hang, code;
    } device[MAX_DEVICES + 1];
    struct mock_process *process;
    int processes;
    struct mock_event *event;
    int events;
} now = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void path_of_values(char *path, size_t size)
{
    const char *named = getenv("NVML_MOCK_VALUES");
    Dl_info self;
    char real[PATH_MAX];
    path[0] = 0;
    if (named)
        snprintf(path, size, "%s", named);
    else if (dladdr((void *)path_of_values, &self) && realpath(self.dli_fname, real)) {
        strrchr(real, '/')[0] = 0;
        snprintf(path, size, "%s/nvml-mock.values", real);
    }
}

/* The place of a device in the table, or -1. */
static int parse_device(const char *text)
{
    unsigned gpu, mig;
    if (!strcmp(text, "*"))
        return NO_DEVICE;
    int count = sscanf(text, "%u:%u", &gpu, &mig);
    if (count < 1 || gpu >= MAX_GPUS || (count == 2 && mig >= MAX_MIGS))
        return -1;
    return (int)(gpu * (MAX_MIGS + 1) + (count == 2 ? mig + 1 : 0));
}

static void add_value(int device, const char *key, const char *text)
{
    struct value value = {0};
    char *end;
    snprintf(value.key, sizeof value.key, "%.39s", key);
    if (text[0] == 'E') {
        value.code = atoi(text + 1);
    } else {
        value.real = strtod(text, &end);
        value.whole = strtoull(text, NULL, 10);
        value.type = *end;
    }
    int n = now.device[device].count++;
    now.device[device].value = realloc(now.device[device].value, (size_t)(n + 1) * sizeof value);
    now.device[device].value[n] = value;
}

static void read_value_line(const char *line)
{
    char name[16], key[64], text[64], kind[16];
    if (sscanf(line, "%15s %63s %63s", name, key, text) != 3)
        return;
    int device = parse_device(name);
    if (device < 0)
        return;
    struct mock_process p = {.device = (unsigned)device};
    struct mock_event e = {.device = (unsigned)device};
    if (!strcmp(key, "state")) {
        now.device[device].hang = !strcmp(text, "hang");
        now.device[device].code = text[0] == 'E' ? atoi(text + 1) : 0;
    } else if (sscanf(line, "%*s process %u %15s %lld %d %d %d %d", &p.pid, kind, &p.bytes, &p.sm,
                      &p.memory, &p.encoder, &p.decoder) == 7) {
        p.kind = kind[0];
        now.process = realloc(now.process, (size_t)(now.processes + 1) * sizeof p);
        now.process[now.processes++] = p;
    } else if (sscanf(line, "%*s event %u %llu %llu", &e.number, &e.type, &e.data) == 3) {
        now.event = realloc(now.event, (size_t)(now.events + 1) * sizeof e);
        now.event[now.events++] = e;
    } else {
        add_value(device, key, text);
    }
}

/* Takes the lock, and reads the text if it was replaced. */
static void lock_values(void)
{
    static char path[PATH_MAX + sizeof "/nvml-mock.values"];
    char line[256];
    struct stat file = {0};
    pthread_mutex_lock(&now.lock);
    if (!path[0])
        path_of_values(path, sizeof path);
    if (stat(path, &file))
        memset(&file, 0, sizeof file);
    if (file.st_ino == now.file.st_ino && file.st_size == now.file.st_size &&
        file.st_mtim.tv_nsec == now.file.st_mtim.tv_nsec &&
        file.st_mtim.tv_sec == now.file.st_mtim.tv_sec)
        return;
    now.file = file;
    now.processes = now.events = 0;
    for (int i = 0; i <= MAX_DEVICES; i++)
        now.device[i].count = now.device[i].hang = now.device[i].code = 0;
    FILE *text = fopen(path, "r");
    while (text && fgets(line, sizeof line, text))
        read_value_line(line);
    if (text)
        fclose(text);
}

static void unlock_values(void) { pthread_mutex_unlock(&now.lock); }

/* How often each function was called, what was made and not freed: for the test, which asks. */
static _Atomic unsigned long long calls;
static _Atomic long long gpm_samples, event_sets;

long long nvmlMockCount(const char *name)
{
    if (!strcmp(name, "calls"))
        return (long long)calls;
    if (!strcmp(name, "gpm_samples"))
        return gpm_samples;
    if (!strcmp(name, "event_sets"))
        return event_sets;
    return !strcmp(name, "users") ? host.users : -1;
}

static int place_of(nvmlDevice_t device)
{
    struct mig *mig = as_mig(device);
    struct gpu *gpu = mig ? mig->gpu : as_gpu(device);
    return (int)(gpu - host.gpu) * (MAX_MIGS + 1) + (mig ? (int)(mig - gpu->mig) + 1 : 0);
}

/* Waits while the GPU hangs; then the code that its state has. A MIG device hangs with its GPU. */
static nvmlReturn_t state_of(int place)
{
    int gpu = place / (MAX_MIGS + 1) * (MAX_MIGS + 1);
    for (;;) {
        lock_values();
        int hang = now.device[gpu].hang || now.device[NO_DEVICE].hang;
        int code = now.device[NO_DEVICE].code;
        if (!code)
            code = now.device[gpu].code;
        if (!code)
            code = now.device[place].code;
        unlock_values();
        if (!hang)
            return code;
        usleep(2000);
    }
}

/* The value of a key, or the code with which the question is answered. */
static nvmlReturn_t value_of(int place, const char *key, struct value *value)
{
    nvmlReturn_t code = NOT_SUPPORTED;
    lock_values();
    for (int i = 0; i < now.device[place].count; i++)
        if (!strcmp(now.device[place].value[i].key, key)) {
            *value = now.device[place].value[i];
            code = value->code;
            break;
        }
    unlock_values();
    return code;
}

/* -1 if the GPU cannot be divided, else whether MIG is enabled. */
static int mig_mode_of(struct gpu *gpu)
{
    struct value value;
    return gpu->mig_mode < 0 || value_of(place_of(gpu), "mig_mode", &value) ? gpu->mig_mode
                                                                             : (int)value.whole;
}

static int is_divided(nvmlDevice_t device)
{
    return as_gpu(device) && mig_mode_of(as_gpu(device)) == 1;
}
