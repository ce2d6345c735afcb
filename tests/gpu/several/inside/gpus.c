// SPDX-License-Identifier: Apache-2.0
// Lists the GPUs, one line each:
//
//   gpus [MAJOR MINOR…]   the device nodes; the GPUs of NVML and CUDA, in their order; the nodes
//                         that these libraries created; and whether the GPUs with these minors
//                         can be opened by a new node
//   gpus p2p              for each ordered pair of GPUs, whether a kernel on one reads the other's
//                         memory, and how fast a copy between them is
//
// It needs only the driver, whose libraries it loads by SONAME.
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64, THREADS = 32, COPIES = 10 };
static const size_t BYTES = (size_t)256 << 20;

static const char PTX[] =
    ".version 7.0\n.target sm_52\n.address_size 64\n"
    ".visible .entry copy(.param .u64 out, .param .u64 in) {\n"
    "  .reg .b32 %r<3>; .reg .b64 %rd<8>;\n"
    "  ld.param.u64 %rd1, [out];\n"
    "  ld.param.u64 %rd2, [in];\n"
    "  cvta.to.global.u64 %rd3, %rd1;\n"
    "  cvta.to.global.u64 %rd4, %rd2;\n"
    "  mov.u32 %r1, %tid.x;\n"
    "  mul.wide.u32 %rd5, %r1, 4;\n"
    "  add.s64 %rd6, %rd4, %rd5;\n"
    "  add.s64 %rd7, %rd3, %rd5;\n"
    "  ld.global.u32 %r2, [%rd6];\n"
    "  st.global.u32 [%rd7], %r2;\n"
    "  ret;\n}\n";

typedef struct { unsigned char bytes[16]; } Uuid;
typedef struct {
  char legacy[16];
  unsigned domain, bus, device, id, subsystem;
  char address[32];
} Pci;

static void *opened(const char *name) {
  void *library = dlopen(name, RTLD_NOW);
  if (!library) {
    fprintf(stderr, "%s\n", dlerror());
    exit(1);
  }
  return library;
}

static void *symbol(void *library, const char *name) {
  void *address = dlsym(library, name);
  if (!address) {
    fprintf(stderr, "no %s\n", name);
    exit(1);
  }
  return address;
}

static void check(const char *what, int result) {
  if (result) {
    fprintf(stderr, "%s: error %d\n", what, result);
    exit(1);
  }
}

static void nvml(void) {
  void *library = opened("libnvidia-ml.so.1");
  int (*init)(void) = symbol(library, "nvmlInit_v2");
  int (*get_count)(unsigned *) = symbol(library, "nvmlDeviceGetCount_v2");
  int (*get)(unsigned, void **) = symbol(library, "nvmlDeviceGetHandleByIndex_v2");
  int (*get_uuid)(void *, char *, unsigned) = symbol(library, "nvmlDeviceGetUUID");
  int (*get_minor)(void *, unsigned *) = symbol(library, "nvmlDeviceGetMinorNumber");
  int (*get_pci)(void *, Pci *) = symbol(library, "nvmlDeviceGetPciInfo_v3");
  unsigned count = 0;
  check("nvmlInit", init());
  check("nvmlDeviceGetCount", get_count(&count));
  for (unsigned index = 0; index < count; index++) {
    void *gpu;
    char uuid[96];
    unsigned minor;
    Pci pci;
    check("nvmlDeviceGetHandleByIndex", get(index, &gpu));
    check("nvmlDeviceGetUUID", get_uuid(gpu, uuid, sizeof uuid));
    check("nvmlDeviceGetMinorNumber", get_minor(gpu, &minor));
    check("nvmlDeviceGetPciInfo", get_pci(gpu, &pci));
    printf("nvml %u %s %s minor %u\n", index, uuid, pci.address, minor);
  }
}

static void *cuda;
static int devices;

static void start_cuda(void) {
  cuda = opened("libcuda.so.1");
  int (*init)(unsigned) = symbol(cuda, "cuInit");
  int (*get_count)(int *) = symbol(cuda, "cuDeviceGetCount");
  check("cuInit", init(0));
  check("cuDeviceGetCount", get_count(&devices));
  if (devices > MOST) devices = MOST;
}

static void cuda_devices(void) {
  int (*get)(int *, int) = symbol(cuda, "cuDeviceGet");
  int (*get_uuid)(Uuid *, int) = symbol(cuda, "cuDeviceGetUuid");
  int (*get_pci)(char *, int, int) = symbol(cuda, "cuDeviceGetPCIBusId");
  for (int index = 0; index < devices; index++) {
    int device;
    Uuid uuid;
    char address[32];
    check("cuDeviceGet", get(&device, index));
    check("cuDeviceGetUuid", get_uuid(&uuid, device));
    check("cuDeviceGetPCIBusId", get_pci(address, sizeof address, device));
    printf("cuda %d GPU-", index);
    for (int byte = 0; byte < 16; byte++)
      printf(byte == 4 || byte == 6 || byte == 8 || byte == 10 ? "-%02x" : "%02x",
             uuid.bytes[byte]);
    printf(" %s\n", address);
  }
}

static char listed[256];

static void nodes(const char *word) {
  DIR *folder = opendir("/dev");
  if (!folder) return;
  for (struct dirent *entry; (entry = readdir(folder));) {
    unsigned minor;
    int end = 0;
    if (sscanf(entry->d_name, "nvidia%u%n", &minor, &end) != 1 || entry->d_name[end]) continue;
    if (minor >= sizeof listed || listed[minor]) continue;
    listed[minor] = 1;
    printf("%s %u\n", word, minor);
  }
  closedir(folder);
}

static void other(int major, int minor) {
  char path[64];
  snprintf(path, sizeof path, "/dev/another-gpu-%d", minor);
  const char *call = "mknod";
  int failed = mknod(path, S_IFCHR | 0600, makedev(major, minor));
  int file = -1;
  if (!failed) {
    call = "open";
    file = open(path, O_RDWR);
  }
  if (file >= 0)
    printf("other %d OPENED\n", minor);
  else
    printf("other %d refused: %s: %s\n", minor, call, strerror(errno));
  if (file >= 0) close(file);
  if (!failed) unlink(path);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

static void p2p(void) {
  int (*get)(int *, int) = symbol(cuda, "cuDeviceGet");
  int (*can_access)(int *, int, int) = symbol(cuda, "cuDeviceCanAccessPeer");
  int (*retain)(void **, int) = symbol(cuda, "cuDevicePrimaryCtxRetain");
  int (*set_current)(void *) = symbol(cuda, "cuCtxSetCurrent");
  int (*synchronize)(void) = symbol(cuda, "cuCtxSynchronize");
  int (*enable)(void *, unsigned) = symbol(cuda, "cuCtxEnablePeerAccess");
  int (*load)(void **, const void *) = symbol(cuda, "cuModuleLoadData");
  int (*function)(void **, void *, const char *) = symbol(cuda, "cuModuleGetFunction");
  int (*allocate)(unsigned long long *, size_t) = symbol(cuda, "cuMemAlloc_v2");
  int (*fill)(unsigned long long, unsigned, size_t) = symbol(cuda, "cuMemsetD32_v2");
  int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                void *, void **, void **) = symbol(cuda, "cuLaunchKernel");
  int (*read_back)(void *, unsigned long long, size_t) = symbol(cuda, "cuMemcpyDtoH_v2");
  int (*copy)(unsigned long long, void *, unsigned long long, void *, size_t) =
      symbol(cuda, "cuMemcpyPeer");
  void *context[MOST], *kernel[MOST];
  unsigned long long source[MOST], target[MOST];
  int device[MOST];
  for (int index = 0; index < devices; index++) {
    void *module;
    check("cuDeviceGet", get(&device[index], index));
    check("cuDevicePrimaryCtxRetain", retain(&context[index], device[index]));
    check("cuCtxSetCurrent", set_current(context[index]));
    check("cuModuleLoadData", load(&module, PTX));
    check("cuModuleGetFunction", function(&kernel[index], module, "copy"));
    check("cuMemAlloc", allocate(&source[index], BYTES));
    check("cuMemAlloc", allocate(&target[index], BYTES));
    check("cuMemsetD32", fill(source[index], 1000 + index, BYTES / 4));
    check("cuCtxSynchronize", synchronize());
  }
  for (int reader = 0; reader < devices; reader++)
    for (int owner = 0; owner < devices; owner++) {
      if (reader == owner) continue;
      int can = 0;
      unsigned out[THREADS] = {0};
      check("cuDeviceCanAccessPeer", can_access(&can, device[reader], device[owner]));
      check("cuCtxSetCurrent", set_current(context[reader]));
      if (can) {
        check("cuCtxEnablePeerAccess", enable(context[owner], 0));
        void *arguments[] = {&target[reader], &source[owner]};
        check("cuMemsetD32", fill(target[reader], 0, THREADS));
        check("cuLaunchKernel",
              launch(kernel[reader], 1, 1, 1, THREADS, 1, 1, 0, 0, arguments, 0));
        check("cuMemcpyDtoH", read_back(out, target[reader], sizeof out));
      }
      int right = can;
      for (int thread = 0; thread < THREADS; thread++)
        right = right && out[thread] == 1000u + owner;
      double begun = 0;
      for (int count = -1; count < COPIES; count++) {
        if (!count) {
          check("cuCtxSynchronize", synchronize());
          begun = seconds();
        }
        check("cuMemcpyPeer",
              copy(target[reader], context[reader], source[owner], context[owner], BYTES));
      }
      check("cuCtxSynchronize", synchronize());
      double rate = COPIES * (double)BYTES / (seconds() - begun) / 1e9;
      printf("p2p %d %d access %s, kernel %s, %.0f GB/s\n", reader, owner, can ? "yes" : "no",
             right ? "read it" : can ? "READ SOMETHING ELSE" : "not run", rate);
    }
}

int main(int count, char **words) {
  nodes("node");
  start_cuda();
  if (count == 2 && !strcmp(words[1], "p2p")) {
    p2p();
    return 0;
  }
  nvml();
  cuda_devices();
  nodes("created");
  for (int word = 2; word < count; word++) other(atoi(words[1]), atoi(words[word]));
  return 0;
}
