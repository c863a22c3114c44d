/* A libamdhip64 with one gfx1151 device that runs nothing: it keeps what the last launch was given, so that a test can drive the real
   hip-python package through the driver. Struct offsets: hipDeviceProp_tR0600 of HIP 6 and 7. */
#include <stddef.h>
#include <string.h>

enum { NAME = 0, ARCH = 1160, PROPERTIES = 1472, PARAMETER_POINTER = 1, PARAMETER_SIZE = 2, PARAMETER_END = 3 };

static struct {
  unsigned geometry[7];
  void *function, *stream;
  size_t bytes;
  unsigned char arguments[256];
} last;

const void *stub_last(void) { return &last; }

int hipRuntimeGetVersion(int *version) { return *version = 70253211, 0; }
int hipGetDeviceCount(int *count) { return *count = 1, 0; }
int hipGetDevice(int *device) { return *device = 0, 0; }
int hipSetDevice(int device) { return device ? 101 : 0; }
int hipDeviceGetAttribute(int *value, int attribute, int device) { return *value = attribute + 1000, 0; }
const char *hipGetErrorString(int error) { return error ? "the stub says no" : "no error"; }

int hipGetDevicePropertiesR0600(char *properties, int device) {
  memset(properties, 0, PROPERTIES);
  strcpy(properties + NAME, "Stub");
  strcpy(properties + ARCH, "gfx1151:sramecc+");
  return 0;
}

int hipModuleLoadData(void **module, const void *image) {
  if (memcmp(image, "\177ELF", 4)) return 200; /* hipErrorInvalidImage */
  return *module = (void *)0x1000, 0;
}
int hipModuleGetFunction(void **function, void *module, const char *name) {
  if (module != (void *)0x1000 || strcmp(name, "k")) return 500; /* hipErrorNotFound */
  return *function = (void *)0x2000, 0;
}
int hipFuncSetAttribute(const void *function, int attribute, int value) { return 0; }
int hipModuleUnload(void *module) { return 0; }

int hipModuleLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned lds,
                          void *stream, void **parameters, void **extra) {
  const unsigned geometry[7] = {gx, gy, gz, bx, by, bz, lds};
  if (parameters || !extra || extra[0] != (void *)PARAMETER_POINTER || extra[2] != (void *)PARAMETER_SIZE ||
      extra[4] != (void *)PARAMETER_END)
    return 1; /* hipErrorInvalidValue */
  memcpy(last.geometry, geometry, sizeof geometry);
  last.function = function, last.stream = stream, last.bytes = *(size_t *)extra[3];
  if (last.bytes > sizeof last.arguments) return 1;
  memcpy(last.arguments, extra[1], last.bytes);
  return 0;
}
