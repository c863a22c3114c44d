// Memory: allocations with exact bounds, registered host memory, copies and fills.
//
// An allocation is host memory with a gap behind it, so that a kernel that runs past its end meets no neighbour; it starts out as NaN. Checks of copies and
// fills follow clr's ihipMemcpy_validate: what begins in a known allocation must end in it; addresses that nobody knows are the host's.
#include "hip.h"

enum { ALIGNMENT = 256, GAP = 4096, POISON = 0x7FE17FE1, DEFAULT_KIND = 4, NO_CU_KIND = 1024 };

static Range *ranges;  // sorted by address
static u64 nranges, room;

static u64 place_of(u64 address) {  // of the first range that begins behind the address
  u64 low = 0, high = nranges;
  while (low < high) {
    u64 middle = (low + high) / 2;
    if (ranges[middle].address <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

Range *range_of(u64 address) {
  u64 at = place_of(address);
  return at && address - ranges[at - 1].address < ranges[at - 1].size ? &ranges[at - 1] : NULL;
}

int range_add(u64 address, u64 size, int kind, int flags, void *storage) {
  int status = OK;
  lock();
  u64 at = place_of(address);
  if (range_of(address) || (at < nranges && ranges[at].address < address + size)) status = ALREADY_REGISTERED;
  if (!status && nranges == room) {
    Range *bigger = realloc(ranges, (2 * room + 64) * sizeof *ranges);
    if (bigger) ranges = bigger, room = 2 * room + 64;
    else status = OUT_OF_MEMORY;
  }
  if (!status) {
    memmove(ranges + at + 1, ranges + at, (nranges - at) * sizeof *ranges);
    ranges[at] = (Range){address, size, kind, current_device, flags, storage};
    nranges++;
  }
  unlock();
  return status;
}

static void cut(u64 at) {
  nranges--;
  memmove(ranges + at, ranges + at + 1, (nranges - at) * sizeof *ranges);
}

int range_remove(u64 address, int kind_a, int kind_b, Range *out) {
  int found = 0;
  lock();
  u64 at = place_of(address);
  if (at && ranges[at - 1].address == address && (ranges[at - 1].kind == kind_a || ranges[at - 1].kind == kind_b)) {
    *out = ranges[at - 1];
    cut(at - 1);
    found = 1;
  }
  unlock();
  return found;
}

void ranges_forget(const void *module) {
  lock();
  for (u64 i = nranges; i-- > 0;)
    if (ranges[i].kind == MEMORY_MODULE && ranges[i].storage == module) cut(i);
  unlock();
}

Region *all_regions(u64 *count) {
  lock();
  Region *out = calloc(nranges + 1, sizeof *out);
  *count = 0;
  for (u64 i = 0; out && i < nranges; i++) {
    if (ranges[i].kind == MEMORY_MODULE) continue;  // the emulator maps them itself
    Region *r = &out[(*count)++];
    r->address = ranges[i].address, r->size = ranges[i].size, r->writable = 1, r->argument = ~0u;
    snprintf(r->label, LABEL, "%s", ranges[i].kind == MEMORY_DEVICE ? "device memory" : "host memory");
  }
  unlock();
  return out;
}

static int allocate(void **out, u64 size, int kind, int flags) {
  if (!out) return done(INVALID_VALUE);
  *out = NULL;
  if (!size) return done(OK);
  int status = not_while_capturing("an allocation");
  if (status) return status;
  void *storage = NULL;
  if (size > devices[current_device]->memory || posix_memalign(&storage, ALIGNMENT, size + GAP))
    return refuse(OUT_OF_MEMORY, "%llu bytes of device memory were asked for, there are %llu", size, devices[current_device]->memory);
  u32 *words = storage;
  for (u64 i = 0; i < (size + GAP) / 4; i++) words[i] = POISON;
  status = range_add((u64)storage, size, kind, flags, storage);
  if (status) free(storage);
  else *out = storage;
  return done(status);
}

static int release(void *given, int kind_a, int kind_b, const char *what) {
  if (!given) return done(OK);
  int status = not_while_capturing(what);
  if (status) return status;
  Range range;
  enter();  // what is under way may still use it
  int found = range_remove((u64)given, kind_a, kind_b, &range);
  leave();
  if (!found) return refuse(INVALID_VALUE, "%s: %p is not the beginning of an allocation of that kind", what, given);
  free(range.storage);
  return done(OK);
}

API hipMalloc(void **out, usize size) { return allocate(out, size, MEMORY_DEVICE, 0); }
API hipExtMallocWithFlags(void **out, usize size, unsigned flags) { return allocate(out, size, MEMORY_DEVICE, (int)flags); }
API hipMallocManaged(void **out, usize size, unsigned flags) { return allocate(out, size, MEMORY_MANAGED, (int)flags); }
API hipHostMalloc(void **out, usize size, unsigned flags) { return allocate(out, size, MEMORY_HOST, (int)flags); }
API hipHostAlloc(void **out, usize size, unsigned flags) { return allocate(out, size, MEMORY_HOST, (int)flags); }
API hipMallocHost(void **out, usize size) { return allocate(out, size, MEMORY_HOST, 0); }
API hipMemAllocHost(void **out, usize size) { return allocate(out, size, MEMORY_HOST, 0); }
API hipFree(void *given) { return release(given, MEMORY_DEVICE, MEMORY_MANAGED, "hipFree"); }
API hipHostFree(void *given) { return release(given, MEMORY_HOST, MEMORY_HOST, "hipHostFree"); }
API hipFreeHost(void *given) { return release(given, MEMORY_HOST, MEMORY_HOST, "hipFreeHost"); }

API hipMallocAsync(void **out, usize size, void *stream) {
  Stream *s;
  int status = stream_of(stream, &s);
  return status ? status : allocate(out, size, MEMORY_DEVICE, 0);
}
API hipFreeAsync(void *given, void *stream) {
  Stream *s;
  int status = stream_of(stream, &s);
  return status ? status : given ? hipFree(given) : done(INVALID_VALUE);
}

API hipHostRegister(void *given, usize size, unsigned flags) {
  if (!given || !size) return done(INVALID_VALUE);
  int status = range_add((u64)given, size, MEMORY_REGISTERED, (int)flags, NULL);
  return status ? refuse(status, "hipHostRegister: %llu bytes at %p overlap memory that is known", (u64)size, given) : done(OK);
}
API hipHostUnregister(void *given) {
  Range range;
  enter();
  int found = range_remove((u64)given, MEMORY_REGISTERED, MEMORY_REGISTERED, &range);
  leave();
  return found ? done(OK) : refuse(NOT_REGISTERED, "hipHostUnregister: %p is not the beginning of registered memory", given);
}
API hipHostGetDevicePointer(void **out, void *given, unsigned flags) {
  if (!out || flags) return done(INVALID_VALUE);
  lock();
  Range *range = range_of((u64)given);
  int there = range && (range->kind == MEMORY_HOST || range->kind == MEMORY_REGISTERED);
  unlock();
  *out = there ? given : NULL;
  return done(there ? OK : INVALID_VALUE);
}

API hipMemGetInfo(usize *left, usize *total) {
  if (!left || !total) return done(INVALID_VALUE);
  u64 used = 0;
  lock();
  for (u64 i = 0; i < nranges; i++)
    if (ranges[i].kind == MEMORY_DEVICE && ranges[i].device == current_device) used += ranges[i].size;
  unlock();
  *total = devices[current_device]->memory;
  *left = used < *total ? *total - used : 0;
  return done(OK);
}

API hipMemGetAddressRange(void **base, usize *size, void *given) {
  lock();
  Range *range = range_of((u64)given);
  if (range && base) *base = (void *)range->address;
  if (range && size) *size = range->size;
  unlock();
  return done(range ? OK : NOT_FOUND);
}
API hipMemPtrGetInfo(void *given, usize *size) {
  return size ? hipMemGetAddressRange(NULL, size, given) : done(INVALID_VALUE);
}

typedef struct { int type, device; void *device_pointer, *host_pointer; int managed; unsigned flags; } Attributes;  // hipPointerAttribute_t

API hipPointerGetAttributes(Attributes *out, const void *given) {
  if (!out || !given) return done(INVALID_VALUE);
  lock();
  Range *found = range_of((u64)given), range = found ? *found : (Range){0};
  unlock();
  memset(out, 0, sizeof *out);
  if (!found) return done(INVALID_VALUE);  // ROCm 7: hipMemoryTypeUnregistered is for later
  int host = range.kind == MEMORY_HOST || range.kind == MEMORY_REGISTERED;
  *out = (Attributes){range.kind == MEMORY_MANAGED ? 3 : host ? 1 : 2, range.device, (void *)given, host || range.kind == MEMORY_MANAGED ? (void *)given : NULL,
                      range.kind == MEMORY_MANAGED, (unsigned)range.flags};
  return done(OK);
}

// ---- copies and fills
static int within(u64 address, u64 size, const char *what) {  // 0, or the status for an access that leaves its allocation
  lock();
  Range *found = range_of(address), range = found ? *found : (Range){0};
  unlock();
  if (!found || size <= range.size - (address - range.address)) return OK;
  return refuse(INVALID_VALUE, "%s of %llu bytes at offset %llu of an allocation of %llu bytes", what, size, address - range.address, range.size);
}

int copy_now(u64 to, u64 from, u64 size) {
  int status = within(to, size, "a copy to device or host memory");
  if (!status) status = within(from, size, "a copy from device or host memory");
  if (!status) memmove((void *)to, (const void *)from, size);
  return status;
}

int fill_now(u64 to, u64 pattern, u64 element, u64 count) {
  int status = within(to, element * count, "a fill");
  if (status) return status;
  if (element == 1) memset((void *)to, (int)pattern, count);
  else
    for (u64 i = 0; i < count; i++) memcpy((u8 *)to + i * element, &pattern, element);
  return OK;
}

static int known(u64 address) {
  lock();
  int there = range_of(address) != NULL;
  unlock();
  return there;
}

static int copy(void *to, const void *from, u64 size, int kind, void *stream, int waits) {
  Stream *s;
  int status = stream_of(stream, &s);
  if (status) return status;
  if (!size) return done(OK);
  if (!to || !from) return done(INVALID_VALUE);
  if ((kind < 0 || kind > DEFAULT_KIND) && kind != NO_CU_KIND) return refuse(INVALID_DIRECTION, "copy direction %d", kind);
  // A GPU would fault on the host's addresses; the host knows all of them.
  if ((kind == 1 || kind == 3) && !known((u64)to))
    return refuse(INVALID_VALUE, "a copy to %p: that is no live device allocation", to);
  if ((kind == 2 || kind == 3) && !known((u64)from))
    return refuse(INVALID_VALUE, "a copy from %p: that is no live device allocation", (void *)from);
  if (waits && (status = not_while_capturing("a copy that waits"))) return status;
  Node node = {.kind = NODE_COPY, .to = (u64)to, .from = (u64)from, .size = size};
  if ((status = capture_node(s, &node)) >= 0) return status;
  enter();
  status = copy_now(node.to, node.from, size);
  leave();
  return done(status);
}

API hipMemcpy(void *to, const void *from, usize n, int kind) { return copy(to, from, n, kind, NULL, 1); }
API hipMemcpyWithStream(void *to, const void *from, usize n, int kind, void *stream) { return copy(to, from, n, kind, stream, 1); }
API hipMemcpyAsync(void *to, const void *from, usize n, int kind, void *stream) { return copy(to, from, n, kind, stream, 0); }
API hipMemcpyHtoD(void *to, const void *from, usize n) { return copy(to, from, n, 1, NULL, 1); }
API hipMemcpyDtoH(void *to, void *from, usize n) { return copy(to, from, n, 2, NULL, 1); }
API hipMemcpyDtoD(void *to, void *from, usize n) { return copy(to, from, n, 3, NULL, 1); }
API hipMemcpyHtoDAsync(void *to, const void *from, usize n, void *stream) { return copy(to, from, n, 1, stream, 0); }
API hipMemcpyDtoHAsync(void *to, void *from, usize n, void *stream) { return copy(to, from, n, 2, stream, 0); }
API hipMemcpyDtoDAsync(void *to, void *from, usize n, void *stream) { return copy(to, from, n, 3, stream, 0); }

static int fill(void *to, u64 pattern, u64 element, u64 count, void *stream) {
  Stream *s;
  int status = stream_of(stream, &s);
  if (status) return status;
  if (!count) return done(OK);
  if (!known((u64)to)) return refuse(INVALID_VALUE, "a fill at %p: that is no live device allocation", to);
  Node node = {.kind = NODE_FILL, .to = (u64)to, .from = pattern, .size = element, .count = count};
  if ((status = capture_node(s, &node)) >= 0) return status;
  enter();
  status = fill_now(node.to, pattern, element, count);
  leave();
  return done(status);
}

API hipMemset(void *to, int value, usize n) { return fill(to, (u8)value, 1, n, NULL); }
API hipMemsetAsync(void *to, int value, usize n, void *stream) { return fill(to, (u8)value, 1, n, stream); }
API hipMemsetD8(void *to, u8 value, usize n) { return fill(to, value, 1, n, NULL); }
API hipMemsetD8Async(void *to, u8 value, usize n, void *stream) { return fill(to, value, 1, n, stream); }
API hipMemsetD16(void *to, u16 value, usize n) { return fill(to, value, 2, n, NULL); }
API hipMemsetD16Async(void *to, u16 value, usize n, void *stream) { return fill(to, value, 2, n, stream); }
API hipMemsetD32(void *to, int value, usize n) { return fill(to, (u32)value, 4, n, NULL); }
API hipMemsetD32Async(void *to, int value, usize n, void *stream) { return fill(to, (u32)value, 4, n, stream); }
