/* NVML without a GPU: it says what a script says.

   FAKE_NVML_SCRIPT names the script, a text file that is read anew at each call. A line is a key, a blank and a value;
   keys of the n-th GPU begin with "gpu<n>.". What the script leaves out is not supported; the value !15 is error 15
   of nvml.h. Whatever is asked of a GPU with "error !15" fails with that, and its handle cannot be had. That error means
   that the GPU is lost: it stays so, whatever the script says, until the library is shut down by all who opened it. */

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    GPU_IS_LOST = 15,
    VERSION_MISMATCH = 25,
    UNKNOWN = 999
};
enum { VALUE = 1024, GPUS = 64 };

typedef unsigned long long u64;

static int opened;
static char gpus[GPUS]; /* a handle is the address of one of them */
static char lost[GPUS];

/* ---- the script ---- */

static int look(const char *key, char *value) {
    const char *path = getenv("FAKE_NVML_SCRIPT");
    FILE *script = path ? fopen(path, "r") : NULL;
    if (!script) return UNKNOWN;
    char line[VALUE];
    size_t length = strlen(key);
    int result = NOT_SUPPORTED;
    while (result && fgets(line, sizeof line, script)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, key, length) || line[length] != ' ') continue;
        strcpy(value, line + length + 1);
        result = SUCCESS;
    }
    fclose(script);
    return !result && value[0] == '!' ? atoi(value + 1) : result;
}

static int of_system(const char *key, char *value) { return opened > 0 ? look(key, value) : UNINITIALIZED; }

static int of_gpu(void *gpu, const char *key, char *value) {
    char full[VALUE];
    if ((char *)gpu < gpus || (char *)gpu >= gpus + GPUS) return INVALID_ARGUMENT;
    int number = (int)((char *)gpu - gpus);
    if (opened > 0 && lost[number]) return GPU_IS_LOST;
    snprintf(full, sizeof full, "gpu%d.error", number);
    int error = of_system(full, value);
    if (error == GPU_IS_LOST) lost[number] = 1;
    if (error != NOT_SUPPORTED) return error;
    snprintf(full, sizeof full, "gpu%d.%s", number, key);
    return of_system(full, value);
}

static int number(void *gpu, const char *key, u64 *out) {
    char value[VALUE];
    int error = of_gpu(gpu, key, value);
    if (!error) *out = strtoull(value, NULL, 10);
    return error;
}

static int copied(int error, const char *value, char *out, unsigned size) {
    if (error) return error;
    if (strlen(value) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

#define NUMBER(function, type, key)              \
    int function(void *gpu, type *out) {         \
        u64 value;                               \
        int error = number(gpu, key, &value);    \
        if (!error) *out = (type)value;          \
        return error;                            \
    }

#define TEXT(function, key)                              \
    int function(void *gpu, char *out, unsigned size) {  \
        char value[VALUE];                               \
        return copied(of_gpu(gpu, key, value), value, out, size); \
    }

/* ---- the library and the system ---- */

int nvmlInitWithFlags(unsigned flags) {
    char value[VALUE];
    (void)flags;
    int error = look("init", value); /* init !9: as if the driver were not loaded */
    if (error && error != NOT_SUPPORTED) return error;
    opened++;
    return SUCCESS;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (opened <= 0) return UNINITIALIZED;
    opened--;
    if (!opened) memset(lost, 0, sizeof lost);
    return SUCCESS;
}

const char *nvmlErrorString(int error) {
    (void)error;
    return "an error of the fake";
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    char value[VALUE];
    return copied(of_system("driver", value), value, out, size);
}

int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    char value[VALUE];
    return copied(of_system("nvml", value), value, out, size);
}

int nvmlSystemGetCudaDriverVersion(int *out) {
    char value[VALUE];
    int error = of_system("cuda", value);
    if (!error) *out = atoi(value);
    return error;
}

int nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }

int nvmlDeviceGetCount_v2(unsigned *out) {
    char value[VALUE];
    int error = of_system("count", value);
    if (!error) *out = (unsigned)atoi(value);
    return error;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    unsigned count;
    char value[VALUE];
    int error = nvmlDeviceGetCount_v2(&count);
    if (error) return error;
    if (index >= count || index >= GPUS) return INVALID_ARGUMENT;
    error = of_gpu(gpus + index, "handle", value); /* handle !4: somebody else's */
    if (error && error != NOT_SUPPORTED) return error;
    *out = gpus + index;
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
    unsigned count;
    char value[VALUE];
    int error = nvmlDeviceGetCount_v2(&count);
    if (error) return error;
    for (unsigned i = 0; i < count && i < GPUS; i++)
        if (!of_gpu(gpus + i, "uuid", value) && !strcmp(value, uuid)) return nvmlDeviceGetHandleByIndex_v2(i, out);
    return NOT_FOUND;
}

/* ---- one GPU ---- */

TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetUUID, "uuid")
NUMBER(nvmlDeviceGetPowerUsage, unsigned, "power_mw")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned, "cap_mw")
NUMBER(nvmlDeviceGetPowerManagementLimit, unsigned, "cap_mw")
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, "default_cap_mw")
NUMBER(nvmlDeviceGetTotalEnergyConsumption, u64, "energy_mj")
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, u64, "clock_reasons")
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, u64, "clock_reasons")
NUMBER(nvmlDeviceGetPersistenceMode, unsigned, "persistence")

int nvmlDeviceGetIndex(void *gpu, unsigned *out) {
    if ((char *)gpu < gpus || (char *)gpu >= gpus + GPUS) return INVALID_ARGUMENT;
    *out = (unsigned)((char *)gpu - gpus);
    return SUCCESS;
}

static int mode(void *gpu, const char *key, unsigned *now, unsigned *pending) { /* "1", or "1 0" with what is to come */
    char value[VALUE];
    int error = of_gpu(gpu, key, value);
    if (!error && sscanf(value, "%u %u", now, pending) < 2) *pending = *now;
    return error;
}

int nvmlDeviceGetEccMode(void *gpu, unsigned *now, unsigned *pending) { return mode(gpu, "ecc", now, pending); }

int nvmlDeviceGetMigMode(void *gpu, unsigned *now, unsigned *pending) { return mode(gpu, "mig", now, pending); }

int nvmlDeviceGetCudaComputeCapability(void *gpu, int *major, int *minor) {
    char value[VALUE];
    int error = of_gpu(gpu, "compute_capability", value);
    if (!error && sscanf(value, "%d.%d", major, minor) < 2) return UNKNOWN;
    return error;
}

int nvmlDeviceGetTemperature(void *gpu, int sensor, unsigned *out) {
    u64 value;
    int error = sensor ? INVALID_ARGUMENT : number(gpu, "temperature_c", &value);
    if (!error) *out = (unsigned)value;
    return error;
}

struct temperature {
    unsigned version, sensor;
    int degrees;
};

int nvmlDeviceGetTemperatureV(void *gpu, struct temperature *out) {
    return nvmlDeviceGetTemperature(gpu, (int)out->sensor, (unsigned *)&out->degrees);
}

struct utilization {
    unsigned gpu, memory;
};

int nvmlDeviceGetUtilizationRates(void *gpu, struct utilization *out) { /* "73 41": of the GPU, of its memory; % */
    char value[VALUE];
    u64 delay_s; /* delay_s 9: the driver hangs so long */
    if (!number(gpu, "delay_s", &delay_s)) sleep((unsigned)delay_s);
    int error = of_gpu(gpu, "utilization", value);
    if (!error && sscanf(value, "%u %u", &out->gpu, &out->memory) < 2) return UNKNOWN;
    return error;
}

static int clock_of(void *gpu, const char *prefix, int domain, unsigned *out) { /* 0 graphics, 1 SM, 2 memory */
    static const char *domains[] = {"graphics", "sm", "memory"};
    char key[VALUE];
    u64 value;
    if (domain < 0 || domain > 2) return INVALID_ARGUMENT;
    snprintf(key, sizeof key, "%s%s_mhz", prefix, domains[domain]);
    int error = number(gpu, key, &value);
    if (!error) *out = (unsigned)value;
    return error;
}

int nvmlDeviceGetClockInfo(void *gpu, int domain, unsigned *out) { return clock_of(gpu, "", domain, out); }

int nvmlDeviceGetMaxClockInfo(void *gpu, int domain, unsigned *out) { return clock_of(gpu, "max_", domain, out); }

int nvmlDeviceGetPcieThroughput(void *gpu, int counter, unsigned *out) {
    u64 value;
    int error = number(gpu, counter ? "pcie_received_kb" : "pcie_sent_kb", &value);
    if (!error) *out = (unsigned)value;
    return error;
}

/* ---- fields by number ---- */

struct field {
    unsigned id, scope;
    long long timestamp, latency_us;
    unsigned type;
    int error;
    union {
        double fraction;
        unsigned word;
        u64 number;
    } value;
};

static int field(void *gpu, struct field *out) { /* a value "32:17" has 32 bits only */
    static const struct {
        unsigned id, scope;
        const char *key;
    } fields[] = {
        {138, UINT_MAX, "nvlink_sent_kib"}, /* of all links together */
        {139, UINT_MAX, "nvlink_received_kib"},
        {197, 0, "pcie_sent_bytes"},
        {198, 0, "pcie_received_bytes"},
    };
    char value[VALUE];
    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (fields[i].id != out->id || fields[i].scope != out->scope) continue;
        int error = of_gpu(gpu, fields[i].key, value);
        if (error) return error;
        out->value.number = ~0ULL;
        if (strncmp(value, "32:", 3)) {
            out->type = 3;
            out->value.number = strtoull(value, NULL, 10);
        } else {
            out->type = 1;
            out->value.word = (unsigned)strtoull(value + 3, NULL, 10);
        }
        return SUCCESS;
    }
    return INVALID_ARGUMENT;
}

int nvmlDeviceGetFieldValues(void *gpu, int count, struct field *out) {
    char value[VALUE];
    int error = of_gpu(gpu, "name", value);
    if (error && error != NOT_SUPPORTED) return error;
    for (int i = 0; i < count; i++) out[i].error = field(gpu, out + i);
    return SUCCESS;
}

/* ---- GPM: what was between two samples, "62.5 40 -": of the multiprocessors, tensor cores, bandwidth; % ---- */

struct sample {
    void *gpu; /* NULL: not yet taken */
    unsigned taken;
    double percent[3];
};
struct gpm_metric {
    unsigned id;
    int error;
    double value;
    const char *names[3];
};
struct gpm_get {
    unsigned version, count;
    struct sample *first, *second;
    struct gpm_metric metrics[];
};
struct gpm_support {
    unsigned version, is_supported;
};

int nvmlGpmQueryDeviceSupport(void *gpu, struct gpm_support *out) {
    char value[VALUE];
    int error = of_gpu(gpu, "gpm", value);
    if (out->version != 1) return VERSION_MISMATCH;
    out->is_supported = !error;
    return error == NOT_SUPPORTED ? SUCCESS : error;
}

int nvmlGpmSampleAlloc(struct sample **out) {
    if (opened <= 0) return UNINITIALIZED;
    *out = calloc(1, sizeof **out);
    return *out ? SUCCESS : UNKNOWN;
}

int nvmlGpmSampleFree(struct sample *sample) {
    if (opened <= 0) return UNINITIALIZED;
    free(sample);
    return SUCCESS;
}

int nvmlGpmSampleGet(void *gpu, struct sample *out) {
    static unsigned taken;
    char value[VALUE], *rest = NULL;
    int error = of_gpu(gpu, "gpm", value);
    if (error) return error;
    char *word = strtok_r(value, " ", &rest);
    for (int i = 0; i < 3; i++, word = strtok_r(NULL, " ", &rest))
        out->percent[i] = word && strcmp(word, "-") ? strtod(word, NULL) : NAN;
    out->gpu = gpu;
    out->taken = ++taken;
    return SUCCESS;
}

int nvmlGpmMetricsGet(struct gpm_get *out) {
    static const unsigned ids[] = {2, 5, 10};
    struct sample *first = out->first, *second = out->second;
    if (opened <= 0) return UNINITIALIZED;
    if (out->version != 1) return VERSION_MISMATCH;
    if (!first || !second || !first->gpu || first->gpu != second->gpu || first->taken >= second->taken)
        return INVALID_ARGUMENT;
    for (unsigned i = 0; i < out->count; i++) {
        struct gpm_metric *metric = out->metrics + i;
        metric->error = INVALID_ARGUMENT;
        for (unsigned j = 0; j < sizeof ids / sizeof *ids; j++) {
            if (ids[j] != metric->id) continue;
            metric->value = (first->percent[j] + second->percent[j]) / 2;
            metric->error = isnan(metric->value) ? NOT_SUPPORTED : SUCCESS;
        }
    }
    return SUCCESS;
}

/* ---- memory and processes ---- */

struct memory {
    u64 total, free, used;
};
struct memory_v2 {
    unsigned version;
    u64 total, reserved, free, used;
};

int nvmlDeviceGetMemoryInfo_v2(void *gpu, struct memory_v2 *out) {
    int error = number(gpu, "memory_total", &out->total);
    if (!error) error = number(gpu, "memory_used", &out->used);
    if (error) return error;
    if (number(gpu, "memory_reserved", &out->reserved)) out->reserved = 0;
    out->free = out->total - out->used - out->reserved;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *gpu, struct memory *out) {
    struct memory_v2 all;
    int error = nvmlDeviceGetMemoryInfo_v2(gpu, &all);
    if (error) return error;
    out->total = all.total;
    out->free = all.free;
    out->used = all.used + all.reserved;
    return SUCCESS;
}

struct process {
    unsigned pid;
    u64 used;
    unsigned gpu_instance, compute_instance;
};

int nvmlDeviceGetComputeRunningProcesses_v3(void *gpu, unsigned *count, struct process *out) {
    char value[VALUE], *rest = NULL; /* "4242:1073741824 4243:?", a process that keeps its memory to itself */
    unsigned found = 0, room = *count;
    int error = of_gpu(gpu, "processes", value);
    if (error) return error;
    for (char *word = strtok_r(value, " ", &rest); word; word = strtok_r(NULL, " ", &rest), found++) {
        if (!out || found >= room) continue;
        const char *bytes = strchr(word, ':');
        out[found].pid = (unsigned)atoi(word);
        out[found].used = bytes && bytes[1] != '?' ? strtoull(bytes + 1, NULL, 10) : ULLONG_MAX;
        out[found].gpu_instance = out[found].compute_instance = UINT_MAX;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

/* ---- where it is, and what it is joined to ---- */

struct pci {
    char legacy_id[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char id[32];
};

static int place(const char *id, struct pci *out) {
    memset(out, 0, sizeof *out);
    if (sscanf(id, "%x:%x:%x", &out->domain, &out->bus, &out->device) < 3) return UNKNOWN;
    snprintf(out->id, sizeof out->id, "%s", id);
    snprintf(out->legacy_id, sizeof out->legacy_id, "%04x:%02x:%02x.0", out->domain & 0xffff, out->bus & 0xff,
             out->device & 0xff);
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(void *gpu, struct pci *out) {
    char value[VALUE];
    int error = of_gpu(gpu, "bus_id", value);
    return error ? error : place(value, out);
}

static int end_of(void *gpu, unsigned link, char *end) { /* "1 1 switch down": the GPU or what else each link ends at */
    char value[VALUE], *rest = NULL;
    int error = of_gpu(gpu, "nvlinks", value);
    if (error) return error;
    char *word = strtok_r(value, " ", &rest);
    while (word && link--) word = strtok_r(NULL, " ", &rest);
    if (!word) return INVALID_ARGUMENT;
    strcpy(end, word);
    return SUCCESS;
}

int nvmlDeviceGetNvLinkState(void *gpu, unsigned link, unsigned *out) {
    char end[VALUE];
    int error = end_of(gpu, link, end);
    if (!error) *out = strcmp(end, "down") != 0;
    return error;
}

int nvmlDeviceGetNvLinkRemoteDeviceType(void *gpu, unsigned link, int *out) {
    char end[VALUE];
    int error = end_of(gpu, link, end);
    if (!error && !strcmp(end, "down")) return NOT_SUPPORTED;
    if (!error) *out = strcmp(end, "switch") ? 0 : 2;
    return error;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *gpu, unsigned link, struct pci *out) {
    char end[VALUE];
    int error = end_of(gpu, link, end);
    if (!error && !strcmp(end, "down")) return NOT_SUPPORTED;
    if (!error && !strcmp(end, "switch")) return place("00000000:c4:00.0", out);
    return error ? error : nvmlDeviceGetPciInfo_v3(gpus + atoi(end) % GPUS, out);
}

int nvmlDeviceGetTopologyCommonAncestor(void *a, void *b, unsigned *out) { /* ancestor.1 50: with GPU 1; either says */
    char key[VALUE];
    u64 value;
    snprintf(key, sizeof key, "ancestor.%d", (int)((char *)b - gpus));
    int error = number(a, key, &value);
    if (error == NOT_SUPPORTED) {
        snprintf(key, sizeof key, "ancestor.%d", (int)((char *)a - gpus));
        error = number(b, key, &value);
    }
    if (!error) *out = (unsigned)value;
    return error;
}
