// Errors, messages, locks, handles: what the other files stand on, and the entry points by which Python sets the runtime up.
#include "hip.h"

Callbacks callbacks;
int device_count, verbose, executing = 1;
Device *devices[16];
__thread int current_device;
static __thread int last_error;
static __thread char message[MESSAGE];

int done(int status) {
  if (status != OK && status != NOT_READY) last_error = status;
  return status;
}

int vsnprintf(char *out, usize n, const char *format, __builtin_va_list list);

int refuse(int status, const char *format, ...) {
  __builtin_va_list list;
  __builtin_va_start(list, format);
  vsnprintf(message, sizeof message, format, list);
  __builtin_va_end(list);
  return done(status);
}

int missing(const char *name) {
  char line[256];
  int n = snprintf(line, sizeof line, "kgen: the emulated HIP runtime has no %s; it answers hipErrorNotSupported\n", name);
  if (verbose && write(2, line, (usize)n) < 0) return done(NOT_SUPPORTED);
  return refuse(NOT_SUPPORTED, "the emulated HIP runtime has no %s", name);
}

// ---- entry points for Python
API kgenEmuSetup(const Callbacks *given, int talk) {
  if (given) callbacks = *given;
  else memset(&callbacks, 0, sizeof callbacks);
  verbose = talk;
  return OK;
}

API kgenEmuSizes(u64 *out) {
  out[0] = sizeof(Device), out[1] = sizeof(Region), out[2] = sizeof(KernelInfo), out[3] = sizeof(LaunchCall), out[4] = sizeof(Callbacks);
  return OK;
}

API kgenEmuAddDevice(const Device *given) {
  if (device_count == 16) return -1;
  Device *copy = malloc(sizeof *copy);
  if (!copy) return -1;
  *copy = *given;
  devices[device_count] = copy;
  return device_count++;
}

API kgenEmuExecute(int on) {
  int before = executing;
  executing = on;
  return before;
}

API kgenEmuSay(const char *text) {
  snprintf(message, sizeof message, "%s", text);
  return OK;
}

API_TEXT kgenEmuLastMessage(void) { return message; }

// ---- last error
API hipGetLastError(void) {
  int status = last_error;
  last_error = OK;
  return status;
}
API hipExtGetLastError(void) { return hipGetLastError(); }
API hipPeekAtLastError(void) { return last_error; }

// ---- locks
static int table_lock, owner_depth;
static int *owner;  // address of its thread's last_error: one per thread

void lock(void) {
  while (__atomic_exchange_n(&table_lock, 1, __ATOMIC_ACQUIRE)) sched_yield();
}
void unlock(void) { __atomic_store_n(&table_lock, 0, __ATOMIC_RELEASE); }

// A waiting thread may hold Python's lock (hip-python 7 keeps it in every call), which the working thread needs to come to its end: so
// waiting is done by a callback that lets go of it.
void enter(void) {
  int *none = NULL, *me = &last_error;
  if (__atomic_load_n(&owner, __ATOMIC_ACQUIRE) != me) {
    while (!__atomic_compare_exchange_n(&owner, &none, me, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      none = NULL;
      if (callbacks.idle) callbacks.idle();
      else sched_yield();
    }
  }
  owner_depth++;
}
void leave(void) {
  if (--owner_depth == 0) __atomic_store_n(&owner, NULL, __ATOMIC_RELEASE);
}

// ---- handles: a sorted array of addresses, so that nothing a program makes up is ever followed
static void **handles;
static u64 nhandles, room;

static u64 place_of(const void *given) {
  u64 low = 0, high = nhandles;
  while (low < high) {
    u64 middle = (low + high) / 2;
    if (handles[middle] < given) low = middle + 1;
    else high = middle;
  }
  return low;
}

void *handle_new(int kind, usize size) {
  int *record = calloc(1, size);
  if (!record) return NULL;
  *record = kind;
  lock();
  if (nhandles == room) {
    void **bigger = realloc(handles, (room * 2 + 64) * sizeof *handles);
    if (!bigger) {
      unlock();
      free(record);
      return NULL;
    }
    handles = bigger, room = room * 2 + 64;
  }
  u64 at = place_of(record);
  memmove(handles + at + 1, handles + at, (nhandles - at) * sizeof *handles);
  handles[at] = record;
  nhandles++;
  unlock();
  return record;
}

void *handle(const void *given, int kind) {
  lock();
  u64 at = place_of(given);
  void *found = given && at < nhandles && handles[at] == given && *(const int *)given == kind ? (void *)given : NULL;
  unlock();
  return found;
}

int handle_free(void *given, int keep) {
  lock();
  u64 at = place_of(given);
  int there = at < nhandles && handles[at] == given;
  if (there) {
    nhandles--;
    memmove(handles + at, handles + at + 1, (nhandles - at) * sizeof *handles);
  }
  unlock();
  if (there && !keep) free(given);
  return there;
}

// ---- everything else that hip-python can ask for
#define STUB(name) API name(void) { return missing(#name); }
#include "ops.h"
