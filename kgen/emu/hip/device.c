// Devices, their properties and attributes, versions, and what errors are called.
#include "hip.h"

enum { VERSION = 70200000 };  // HIP 7.2: major * 10^7 + minor * 10^5 + patch

static int known(int device) { return device >= 0 && device < device_count; }

API hipInit(unsigned flags) { return flags ? refuse(INVALID_VALUE, "hipInit takes no flags") : done(OK); }

API hipDriverGetVersion(int *out) {
  if (!out) return done(INVALID_VALUE);
  *out = VERSION;
  return done(OK);
}
__attribute__((visibility("default"))) int kgenEmuCalls;  // of hipRuntimeGetVersion: tells Python whether hip-python talks to us
API hipRuntimeGetVersion(int *out) {
  kgenEmuCalls++;
  return hipDriverGetVersion(out);
}

API hipGetDeviceCount(int *out) {
  if (!out) return done(INVALID_VALUE);
  *out = device_count;
  return done(OK);
}

API hipGetDevice(int *out) {
  if (!out) return done(INVALID_VALUE);
  *out = current_device;
  return done(OK);
}

API hipSetDevice(int device) {
  if (!known(device)) return refuse(INVALID_DEVICE, "device %d of %d", device, device_count);
  current_device = device;
  return done(OK);
}

API hipDeviceGet(int *out, int ordinal) {
  if (!out) return done(INVALID_VALUE);
  if (!known(ordinal)) return refuse(INVALID_DEVICE, "device %d of %d", ordinal, device_count);
  *out = ordinal;
  return done(OK);
}

API hipDeviceGetName(char *out, int room, int device) {
  if (!out || room < 1) return done(INVALID_VALUE);
  if (!known(device)) return refuse(INVALID_DEVICE, "device %d of %d", device, device_count);
  snprintf(out, (usize)room, "%s", (const char *)devices[device]->r0600);  // the struct begins with the name
  return done(OK);
}

API hipDeviceTotalMem(usize *out, int device) {
  if (!out) return done(INVALID_VALUE);
  if (!known(device)) return done(INVALID_DEVICE);
  *out = devices[device]->memory;
  return done(OK);
}

API hipDeviceComputeCapability(int *major, int *minor, int device) {
  if (!major || !minor) return done(INVALID_VALUE);
  if (!known(device)) return done(INVALID_DEVICE);
  *major = devices[device]->major, *minor = devices[device]->minor;
  return done(OK);
}

API hipDeviceGetPCIBusId(char *out, int room, int device) {
  if (!out || room < 13) return done(INVALID_VALUE);
  if (!known(device)) return done(INVALID_DEVICE);
  snprintf(out, (usize)room, "0000:%02x:00.0", device + 1);
  return done(OK);
}

API hipGetDevicePropertiesR0600(void *out, int device) {
  if (!out) return done(INVALID_VALUE);
  if (!known(device)) return refuse(INVALID_DEVICE, "device %d of %d", device, device_count);
  memcpy(out, devices[device]->r0600, R0600_BYTES);
  return done(OK);
}

API hipGetDevicePropertiesR0000(void *out, int device) {
  if (!out) return done(INVALID_VALUE);
  if (!known(device)) return refuse(INVALID_DEVICE, "device %d of %d", device, device_count);
  memcpy(out, devices[device]->r0000, R0000_BYTES);
  return done(OK);
}
API hipGetDeviceProperties(void *out, int device) { return hipGetDevicePropertiesR0000(out, device); }  // as exported since ROCm 6

API hipDeviceGetAttribute(int *out, int attribute, int device) {
  if (!out) return done(INVALID_VALUE);
  if (!known(device)) return refuse(INVALID_DEVICE, "device %d of %d", device, device_count);
  if (attribute >= 0 && attribute < CUDA_ATTRIBUTES) *out = devices[device]->cuda[attribute];
  else if (attribute >= 10000 && attribute < 10000 + AMD_ATTRIBUTES) *out = devices[device]->amd[attribute - 10000];
  else return refuse(INVALID_VALUE, "no device attribute has the number %d", attribute);
  return done(OK);
}

API hipDeviceSynchronize(void) {
  int status = not_while_capturing("hipDeviceSynchronize");
  if (status) return status;
  enter();
  leave();
  return done(OK);
}
API hipDeviceReset(void) { return hipDeviceSynchronize(); }
API hipSetDeviceFlags(unsigned flags) { return (void)flags, done(OK); }
API hipGetDeviceFlags(unsigned *out) {
  if (!out) return done(INVALID_VALUE);
  *out = 0;
  return done(OK);
}
API hipDeviceCanAccessPeer(int *out, int device, int peer) {
  if (!out) return done(INVALID_VALUE);
  if (!known(device) || !known(peer)) return done(INVALID_DEVICE);
  *out = 0;
  return done(OK);
}
API hipDeviceGetStreamPriorityRange(int *least, int *greatest) {
  if (least) *least = 1;
  if (greatest) *greatest = -1;
  return done(OK);
}

// ---- names
static const struct { int code; const char *name, *words; } ERRORS[] = {
  {0, "hipSuccess", "no error"},
  {1, "hipErrorInvalidValue", "invalid argument"},
  {2, "hipErrorOutOfMemory", "out of memory"},
  {3, "hipErrorNotInitialized", "initialization error"},
  {4, "hipErrorDeinitialized", "driver shutting down"},
  {9, "hipErrorInvalidConfiguration", "invalid configuration argument"},
  {17, "hipErrorInvalidDevicePointer", "invalid device pointer"},
  {21, "hipErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
  {98, "hipErrorInvalidDeviceFunction", "invalid device function"},
  {100, "hipErrorNoDevice", "no ROCm-capable device is detected"},
  {101, "hipErrorInvalidDevice", "invalid device ordinal"},
  {200, "hipErrorInvalidImage", "device kernel image is invalid"},
  {209, "hipErrorNoBinaryForGpu", "no kernel image is available for execution on the device"},
  {218, "hipErrorInvalidKernelFile", "invalid kernel file"},
  {301, "hipErrorFileNotFound", "file not found"},
  {400, "hipErrorInvalidHandle", "invalid resource handle"},
  {401, "hipErrorIllegalState", "the operation cannot be performed in the present state"},
  {500, "hipErrorNotFound", "named symbol not found"},
  {600, "hipErrorNotReady", "device not ready"},
  {700, "hipErrorIllegalAddress", "an illegal memory access was encountered"},
  {701, "hipErrorLaunchOutOfResources", "too many resources requested for launch"},
  {702, "hipErrorLaunchTimeOut", "the launch timed out and was terminated"},
  {709, "hipErrorContextIsDestroyed", "context is destroyed"},
  {710, "hipErrorAssert", "device-side assert triggered"},
  {712, "hipErrorHostMemoryAlreadyRegistered", "part or all of the requested memory range is already mapped"},
  {713, "hipErrorHostMemoryNotRegistered", "pointer does not correspond to a registered memory region"},
  {719, "hipErrorLaunchFailure", "unspecified launch failure"},
  {801, "hipErrorNotSupported", "operation not supported"},
  {900, "hipErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"},
  {901, "hipErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"},
  {902, "hipErrorStreamCaptureMerge", "operation would result in a merge of separate capture sequences"},
  {903, "hipErrorStreamCaptureUnmatched", "capture was not ended in the same stream as it began"},
  {904, "hipErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
  {906, "hipErrorStreamCaptureImplicit", "operation would make the legacy stream depend on a capturing blocking stream"},
  {907, "hipErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"},
  {999, "hipErrorUnknown", "unknown error"},
};

static const char *look_up(int code, int words) {
  for (usize i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
    if (ERRORS[i].code == code) return words ? ERRORS[i].words : ERRORS[i].name;
  return words ? "unknown error" : "hipErrorUnknown";
}

API_TEXT hipGetErrorName(int code) { return look_up(code, 0); }
API_TEXT hipGetErrorString(int code) { return look_up(code, 1); }
API hipDrvGetErrorName(int code, const char **out) { return out ? (*out = look_up(code, 0), OK) : done(INVALID_VALUE); }
API hipDrvGetErrorString(int code, const char **out) { return out ? (*out = look_up(code, 1), OK) : done(INVALID_VALUE); }
API_TEXT hipApiName(u32 id) { return (void)id, "unknown"; }
API_TEXT hipKernelNameRefByPtr(const void *function, void *stream) { return (void)function, (void)stream, NULL; }
