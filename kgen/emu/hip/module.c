// Modules, kernels, launches, occupancy. What a launch refuses, and with which status, follows clr's hip_module.cpp
// (ihipLaunchKernel_validate, hipModuleLaunchKernel) as of ROCm 7.2; where a GPU would go wrong silently, the emulator's words are the answer.
#include "hip.h"

enum { END = 3, BUFFER_POINTER = 1, BUFFER_SIZE = 2, DYNAMIC_LDS_ATTRIBUTE = 8, FUNCTION_ATTRIBUTES = 10 };

static int load(ModuleHandle **out, const char *path, const void *image) {
  if (!out || (!path && !image)) return done(INVALID_VALUE);
  *out = NULL;
  if (!callbacks.load) return done(DEINITIALIZED);
  u64 id = 0;
  int status = callbacks.load(path, image, current_device, &id);
  if (status) return done(status);
  ModuleHandle *module = handle_new(HANDLE_MODULE, sizeof *module);
  if (!module) return done(OUT_OF_MEMORY);
  module->id = id, module->device = current_device;
  *out = module;
  return done(OK);
}

API hipModuleLoad(ModuleHandle **out, const char *path) { return load(out, path, NULL); }
API hipModuleLoadData(ModuleHandle **out, const void *image) { return load(out, NULL, image); }
API hipModuleLoadDataEx(ModuleHandle **out, const void *image, unsigned n, int *options, void **values) {
  (void)n, (void)options, (void)values;  // they speak of compiling
  return load(out, NULL, image);
}

API hipModuleUnload(void *given) {
  ModuleHandle *module = handle(given, HANDLE_MODULE);
  if (!module) return refuse(INVALID_HANDLE, "hipModuleUnload: %p is no loaded module", given);
  enter();
  int status = callbacks.unload ? callbacks.unload(module->id) : OK;
  leave();
  ranges_forget(module);
  handle_free(module, 1);  // its kernels name it
  return done(status);
}

API hipModuleGetFunction(Function **out, void *given, const char *name) {
  ModuleHandle *module = handle(given, HANDLE_MODULE);
  if (!out || !name) return done(INVALID_VALUE);
  *out = NULL;
  if (!module) return refuse(INVALID_HANDLE, "hipModuleGetFunction: %p is no loaded module", given);
  Function *function = handle_new(HANDLE_FUNCTION, sizeof *function);
  if (!function) return done(OUT_OF_MEMORY);
  int status = callbacks.function ? callbacks.function(module->id, name, &function->info) : DEINITIALIZED;
  if (status) {
    handle_free(function, 0);
    return done(status);
  }
  function->module = module, function->device = module->device;
  snprintf(function->name, sizeof function->name, "%s", name);
  *out = function;
  return done(OK);
}

API hipModuleGetGlobal(void **out, usize *size, void *given, const char *name) {
  ModuleHandle *module = handle(given, HANDLE_MODULE);
  if (!out || !size || !name) return done(INVALID_VALUE);
  if (!module) return refuse(INVALID_HANDLE, "hipModuleGetGlobal: %p is no loaded module", given);
  u64 address = 0, bytes = 0;
  int status = callbacks.symbol ? callbacks.symbol(module->id, name, &address, &bytes) : DEINITIALIZED;
  if (status) return done(status);
  status = range_add(address, bytes, MEMORY_MODULE, 0, module);
  if (status && status != ALREADY_REGISTERED) return done(status);
  *out = (void *)address, *size = bytes;
  return done(OK);
}

API_TEXT hipKernelNameRef(void *given) {
  Function *function = handle(given, HANDLE_FUNCTION);
  return function ? function->name : NULL;
}

API hipFuncGetAttribute(int *out, int attribute, void *given) {
  Function *function = handle(given, HANDLE_FUNCTION);
  if (!out) return done(INVALID_VALUE);
  if (!function) return refuse(INVALID_DEVICE_FUNCTION, "hipFuncGetAttribute: %p is no kernel of a module", given);
  const KernelInfo *k = &function->info;
  int lds = devices[function->device]->lds;
  // max threads, static LDS, constant, scratch, registers, PTX version, binary version, cache mode, dynamic LDS, carve-out
  int values[FUNCTION_ATTRIBUTES] = {(int)k->max_threads, (int)k->lds, 0, (int)k->private_bytes, (int)k->vgprs, 30, 0, 0, lds - (int)k->lds, 0};
  if (attribute < 0 || attribute >= FUNCTION_ATTRIBUTES) return refuse(INVALID_VALUE, "no function attribute has the number %d", attribute);
  *out = values[attribute];
  return done(OK);
}

API hipFuncSetAttribute(const void *given, int attribute, int value) {
  Function *function = handle(given, HANDLE_FUNCTION);
  if (!function) return refuse(INVALID_DEVICE_FUNCTION, "hipFuncSetAttribute: %p is no kernel of a module", given);
  if (attribute == DYNAMIC_LDS_ATTRIBUTE && (value < 0 || value > devices[function->device]->lds - (int)function->info.lds))
    return refuse(INVALID_VALUE, "%s: %d bytes of dynamic LDS beside %u static ones; the device has %d", function->name, value, function->info.lds,
                  devices[function->device]->lds);
  return done(OK);
}
API hipFuncSetCacheConfig(const void *given, int config) { return (void)config, done(handle(given, HANDLE_FUNCTION) ? OK : INVALID_DEVICE_FUNCTION); }

// ---- the caller's own regions for the next launch of this thread
static __thread Region *told;
static __thread u64 ntold;
static __thread int telling;

API kgenEmuRegions(const Region *regions, u64 count) {
  Region *copy = realloc(told, (count + 1) * sizeof *copy);
  if (!copy) return OUT_OF_MEMORY;
  memcpy(copy, regions, count * sizeof *copy);
  told = copy, ntold = count, telling = 1;
  return OK;
}

// ---- launching
static int pack(const Function *function, void **params, void **extra, u8 *out, u64 *size) {
  const KernelInfo *k = &function->info;
  *size = k->explicit_bytes;
  if (params && extra) return refuse(INVALID_VALUE, "%s: both kernelParams and extra were given", function->name);
  if (k->nargs && !params && !extra) return refuse(INVALID_VALUE, "%s: takes %u arguments, neither kernelParams nor extra was given", function->name, k->nargs);
  if (params) {
    for (u32 i = 0; i < k->nargs; i++) {
      if (!params[i]) return refuse(INVALID_VALUE, "%s: kernelParams has no argument %u of %u", function->name, i, k->nargs);
      memcpy(out + k->offset[i], params[i], k->size[i]);
    }
    return OK;
  }
  if (!extra) return OK;
  if (extra[0] != (void *)BUFFER_POINTER || extra[2] != (void *)BUFFER_SIZE || extra[4] != (void *)END)
    return refuse(INVALID_VALUE, "%s: extra is not {BUFFER_POINTER, p, BUFFER_SIZE, &n, END}", function->name);
  const u8 *given = extra[1];
  u64 bytes = extra[3] ? *(const usize *)extra[3] : 0, most = k->kernarg_bytes > k->explicit_bytes ? k->kernarg_bytes : k->explicit_bytes;
  if (!k->nargs && bytes) return refuse(OUT_OF_RESOURCES, "%s: takes no arguments, %llu bytes were given", function->name, bytes);
  if (!k->nargs) return OK;
  if (!given || bytes < k->explicit_bytes || bytes > (most + 15) / 16 * 16)  // clr leaves out what a short buffer does not hold
    return refuse(INVALID_VALUE, "%s: %llu bytes of arguments, the kernel wants %u", function->name, bytes, k->explicit_bytes);
  memcpy(out, given, k->explicit_bytes);
  return OK;
}

static int validate(const Function *function, const LaunchCall *call) {
  const Device *device = devices[function->device];
  u64 threads = (u64)call->block[0] * call->block[1] * call->block[2];
  const char *name = function->name;
  for (int i = 0; i < 3; i++)
    if (!call->grid[i] || !call->block[i] || call->grid[i] > (i ? 65536u : 0x7fffffffu) || (u64)call->grid[i] * call->block[i] >> 32)
      return refuse(INVALID_VALUE, "%s: grid (%u, %u, %u) of blocks (%u, %u, %u)", name, call->grid[0], call->grid[1], call->grid[2], call->block[0],
                    call->block[1], call->block[2]);
  if (threads > (u64)device->max_threads)
    return refuse(INVALID_VALUE, "%s: a block of %llu work-items, the device allows %d", name, threads, device->max_threads);
  if ((u64)call->lds + function->info.lds > (u64)device->lds)
    return refuse(INVALID_VALUE, "%s: %llu bytes of LDS (%u dynamic), the device has %d for a work-group", name, (u64)call->lds + function->info.lds, call->lds,
                  device->lds);
  if (threads > function->info.max_threads)
    return refuse(LAUNCH_FAILURE, "%s: a block of %llu work-items, its launch bound is %u", name, threads, function->info.max_threads);
  return OK;
}

int run_launch(Function *function, const LaunchCall *given) {
  if (handle(function, HANDLE_FUNCTION) == NULL || !handle(function->module, HANDLE_MODULE))
    return refuse(INVALID_HANDLE, "%s: its module was unloaded", function->name);
  if (!executing) return done(OK);
  if (!callbacks.launch) return done(DEINITIALIZED);
  LaunchCall call = *given;
  Region *mine = NULL;
  if (!call.exact) call.regions = mine = all_regions(&call.nregions);
  int status = callbacks.launch(&call);
  free(mine);
  return done(status);
}

static int launch(void *given, u32 gx, u32 gy, u32 gz, u32 bx, u32 by, u32 bz, u64 lds, void *stream, void **params, void **extra) {
  Function *function = handle(given, HANDLE_FUNCTION);
  int exact = telling;
  telling = 0;
  if (!function) return refuse(INVALID_HANDLE, "a launch of %p, which is no kernel of a loaded module", given);
  if (!handle(function->module, HANDLE_MODULE)) return refuse(INVALID_HANDLE, "%s: its module was unloaded", function->name);
  Stream *s;
  int status = stream_of(stream, &s);
  if (status) return status;
  if (function->device != current_device || (stream && s->device >= 0 && s->device != current_device))
    return refuse(INVALID_HANDLE, "%s: loaded on device %d, launched on device %d", function->name, function->device, current_device);
  LaunchCall call = {function->info.id, {gx, gy, gz}, {bx, by, bz}, lds > ~0u ? ~0u : (u32)lds, function->device, NULL, 0, told, ntold, (u32)exact, 0};
  if ((status = validate(function, &call))) return status;
  u64 stack[512], bytes;  // 4 KiB, the most that HIP lets a kernel have
  if (function->info.explicit_bytes > sizeof stack) return refuse(OUT_OF_RESOURCES, "%s: %u bytes of arguments", function->name, function->info.explicit_bytes);
  if ((status = pack(function, params, extra, (u8 *)stack, &bytes))) return status;
  call.kernarg = (u8 *)stack, call.kernarg_bytes = bytes;
  return launch_node(function, &call, s);
}

API hipModuleLaunchKernel(void *f, u32 gx, u32 gy, u32 gz, u32 bx, u32 by, u32 bz, u32 lds, void *stream, void **params, void **extra) {
  return launch(f, gx, gy, gz, bx, by, bz, lds, stream, params, extra);
}

API hipEventRecord(void *event, void *stream);

API hipExtModuleLaunchKernel(void *f, u32 x, u32 y, u32 z, u32 bx, u32 by, u32 bz, usize lds, void *stream, void **params, void **extra, void *start,
                             void *stop, u32 flags) {
  (void)flags;
  if (!bx || !by || !bz || x % bx || y % by || z % bz)  // sizes are in work-items here
    return refuse(INVALID_VALUE, "(%u, %u, %u) work-items do not make whole blocks of (%u, %u, %u)", x, y, z, bx, by, bz);
  int status = start ? hipEventRecord(start, stream) : OK;
  if (!status) status = launch(f, x / bx, y / by, z / bz, bx, by, bz, lds, stream, params, extra);
  return status || !stop ? status : hipEventRecord(stop, stream);
}

// ---- occupancy
API hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(int *out, void *given, int threads, usize lds) {
  Function *function = handle(given, HANDLE_FUNCTION);
  if (!out || threads < 1) return done(INVALID_VALUE);
  if (!function) return refuse(INVALID_DEVICE_FUNCTION, "%p is no kernel of a module", given);
  return done(callbacks.occupancy ? callbacks.occupancy(function->info.id, threads, lds, out) : DEINITIALIZED);
}
API hipModuleOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *out, void *given, int threads, usize lds, unsigned flags) {
  return flags > 1 ? done(INVALID_VALUE) : hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(out, given, threads, lds);
}
API hipModuleOccupancyMaxPotentialBlockSize(int *grid, int *block, void *given, usize lds, int limit) {
  Function *function = handle(given, HANDLE_FUNCTION);
  if (!grid || !block || limit < 0) return done(INVALID_VALUE);
  if (!function) return refuse(INVALID_DEVICE_FUNCTION, "%p is no kernel of a module", given);
  int most = (int)function->info.max_threads, wave = (int)function->info.wave, best = 0;
  if (limit && limit < most) most = limit;
  if (devices[function->device]->max_threads < most) most = devices[function->device]->max_threads;
  for (int threads = most / wave * wave; threads >= wave; threads -= wave) {  // the largest block of those that fill a CU best
    int groups = 0, status = hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(&groups, given, threads, lds);
    if (status) return status;
    if (groups * threads > best) best = groups * threads, *block = threads, *grid = groups * devices[function->device]->cuda[63];
  }
  return done(best ? OK : INVALID_VALUE);
}
API hipModuleOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, void *given, usize lds, int limit, unsigned flags) {
  return flags > 1 ? done(INVALID_VALUE) : hipModuleOccupancyMaxPotentialBlockSize(grid, block, given, lds, limit);
}
