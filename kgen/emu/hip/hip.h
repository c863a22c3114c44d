// The emulated HIP runtime: what its files share. No header is included anywhere, as in the engine (engine/platform.h says why).
//
// Everything runs when it is called: a launch has ended when hipModuleLaunchKernel returns, so every order that streams and events ask
// for holds. `enter` lets one thread at a time work on the devices; decoding and executing kernels is done by callbacks into Python.
#ifndef KGEN_EMU_HIP_H
#define KGEN_EMU_HIP_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef __SIZE_TYPE__ usize;

#define NULL ((void *)0)
#define API __attribute__((visibility("default"))) int
#define API_TEXT __attribute__((visibility("default"))) const char *
#define LOCAL __attribute__((visibility("hidden")))

// libc
void *memcpy(void *to, const void *from, usize n);
void *memmove(void *to, const void *from, usize n);
void *memset(void *to, int byte, usize n);
int memcmp(const void *a, const void *b, usize n);
usize strlen(const char *text);
int snprintf(char *out, usize n, const char *format, ...);
void *malloc(usize n);
void *calloc(usize count, usize n);
void *realloc(void *p, usize n);
void free(void *p);
int posix_memalign(void **p, usize alignment, usize n);
long write(int file, const void *data, usize n);
int sched_yield(void);
int clock_gettime(int clock, long *seconds_and_nanoseconds);

// hipError_t, as far as it is answered here (hip_runtime_api.h of ROCm 7.2)
enum {
  OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, DEINITIALIZED = 4, INVALID_CONFIGURATION = 9, INVALID_DEVICE_POINTER = 17,
  INVALID_DIRECTION = 21, INVALID_DEVICE_FUNCTION = 98, INVALID_DEVICE = 101, INVALID_IMAGE = 200, NO_BINARY = 209, FILE_NOT_FOUND = 301,
  INVALID_HANDLE = 400, ILLEGAL_STATE = 401, NOT_FOUND = 500, NOT_READY = 600, OUT_OF_RESOURCES = 701, CONTEXT_DESTROYED = 709,
  ALREADY_REGISTERED = 712, NOT_REGISTERED = 713, LAUNCH_FAILURE = 719, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901, CAPTURE_MERGE = 902, CAPTURE_UNMATCHED = 903, CAPTURE_UNJOINED = 904, CAPTURE_IMPLICIT = 906, CAPTURED_EVENT = 907,
};

// ---- records that Python fills or reads; kgen/emu/hiprecords.py has the same
enum { R0600_BYTES = 1472, R0000_BYTES = 792, CUDA_ATTRIBUTES = 128, AMD_ATTRIBUTES = 64, LABEL = 32, MESSAGE = 4096, ARGUMENTS = 256 };

typedef struct {
  u8 r0600[R0600_BYTES], r0000[R0000_BYTES];
  i32 cuda[CUDA_ATTRIBUTES], amd[AMD_ATTRIBUTES];
  u64 memory;
  i32 max_threads, lds, major, minor;
} Device;

typedef struct {
  u64 address, size;
  u32 writable, argument;
  char label[LABEL];
} Region;

typedef struct {
  u64 id;  // of the kernel, in Python
  u32 explicit_bytes, kernarg_bytes, nargs, lds, private_bytes, vgprs, max_threads, wave;
  u32 offset[ARGUMENTS], size[ARGUMENTS];
} KernelInfo;

typedef struct {
  u64 kernel;
  u32 grid[3], block[3], lds;
  i32 device;
  const u8 *kernarg;
  u64 kernarg_bytes;
  const Region *regions;
  u64 nregions;
  u32 exact, spare;  // exact: the regions are the caller's, one per pointer argument; else every allocation there is
} LaunchCall;

typedef struct {
  int (*load)(const char *path, const u8 *image, i32 device, u64 *module);
  int (*unload)(u64 module);
  int (*function)(u64 module, const char *name, KernelInfo *out);
  int (*symbol)(u64 module, const char *name, u64 *address, u64 *size);
  int (*launch)(const LaunchCall *call);
  int (*occupancy)(u64 kernel, i32 threads, u64 lds, i32 *groups);
  int (*idle)(void);
} Callbacks;

// ---- state
enum { HANDLE_STREAM = 1, HANDLE_EVENT, HANDLE_MODULE, HANDLE_FUNCTION, HANDLE_GRAPH, HANDLE_EXEC };
enum { MEMORY_DEVICE = 1, MEMORY_HOST, MEMORY_REGISTERED, MEMORY_MANAGED, MEMORY_MODULE };

typedef struct Node {
  struct Node *next;
  int kind;  // NODE_
  LaunchCall call;
  void *function;
  u64 to, from, size, count;  // copy: to, from, size; fill: to, pattern in from, size of an element, elements
} Node;
enum { NODE_KERNEL = 1, NODE_COPY, NODE_FILL, NODE_EMPTY };

typedef struct {
  int kind;
  Node *first, *last;
  u64 count;
} Graph;

struct Stream;
typedef struct {
  Graph *graph;
  struct Stream *origin;
  int invalid, mode;
  u64 id;
} Capture;

typedef struct Stream {
  int kind, flags, priority, device;
  Capture *capture;
  int ahead;  // captured work that the stream where the capture began has not waited for
} Stream;

typedef struct {
  int kind;
  u64 id;
  i32 device;
} ModuleHandle;

typedef struct {
  int kind;
  i32 device;
  ModuleHandle *module;
  KernelInfo info;
  int max_dynamic_lds;
  char name[256];
} Function;

typedef struct {
  u64 address, size;
  int kind, device, flags;
  void *storage;
} Range;

extern LOCAL Callbacks callbacks;
extern LOCAL int device_count, verbose, executing;
extern LOCAL Device *devices[];
extern LOCAL __thread int current_device;
extern LOCAL Stream null_stream;
extern LOCAL int captures;  // streams being captured by others' leave; see stream.c

LOCAL int done(int status);                         // what every entry point returns through: keeps the last error
LOCAL int refuse(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));  // done, with words for kgenEmuLastMessage
LOCAL int missing(const char *name);                // hipErrorNotSupported
LOCAL void enter(void);                             // one thread at a time on the devices; nests
LOCAL void leave(void);
LOCAL void lock(void);                              // the tables below; held for moments, never across a callback
LOCAL void unlock(void);
LOCAL void *handle_new(int kind, usize size);       // a zeroed record whose first member is `kind`
LOCAL void *handle(const void *given, int kind);    // `given` if it is one of that kind, else NULL
LOCAL int handle_free(void *given, int keep);       // forgets it; `keep`: the record's memory stays, for graphs that name it
LOCAL Range *range_of(u64 address);                 // under lock: the allocation that holds an address, or NULL
LOCAL int range_add(u64 address, u64 size, int kind, int flags, void *storage);
LOCAL int range_remove(u64 address, int kind_a, int kind_b, Range *out);
LOCAL void ranges_forget(const void *module);  // the variables of a module
LOCAL Region *all_regions(u64 *count);              // every allocation, to be freed
LOCAL int copy_now(u64 to, u64 from, u64 size);
LOCAL int fill_now(u64 to, u64 pattern, u64 element, u64 count);
LOCAL int run_launch(Function *function, const LaunchCall *call);
LOCAL int stream_of(void *given, Stream **out);     // 0 or a status; NULL is the null stream
LOCAL int capture_node(Stream *stream, const Node *node);  // -1 when the stream is not captured, else the status of recording
LOCAL int not_while_capturing(const char *what);    // 0, or the status that refuses what cannot be captured
LOCAL int launch_node(Function *function, LaunchCall *call, Stream *stream);

#endif
