// Streams, events, capture into graphs and their replay.
//
// Work is done in the order of the calls, which is one of the orders that streams and events allow. A captured graph replays its nodes in
// the order of their capture, for the same reason. The rules of what may be captured are clr's (hip_graph_capture, hip_stream.cpp).
#include "hip.h"

enum { NON_BLOCKING = 1, NO_TIMING = 2, MODE_GLOBAL = 0, MODE_THREAD = 1, MODE_RELAXED = 2, WRONG_THREAD = 908, ISOLATION = 905, MOST_STREAMS = 64 };

typedef struct Active {
  struct Active *next;
  Capture capture;
  Stream *streams[MOST_STREAMS];
  int nstreams, *thread;
} Active;

typedef struct {
  int kind, flags, recorded;
  long time;  // ns
  u64 capture, mark;
  Stream *stream;
} Event;

Stream null_stream = {HANDLE_STREAM, 0, 0, -1, NULL, 0};
static Stream thread_stream = {HANDLE_STREAM, 0, 0, -1, NULL, 0};
static Active *active;
int captures;                       // in global mode
static __thread int own_captures;   // begun by this thread, not relaxed
static __thread int capture_mode = MODE_GLOBAL;
static u64 last_capture;

static long now(void) {
  long t[2];
  clock_gettime(1, t);
  return t[0] * 1000000000 + t[1];
}

static Active *active_of(const Stream *stream) {
  for (Active *a = active; a; a = a->next)
    if (stream->capture == &a->capture) return a;
  return NULL;
}

int stream_of(void *given, Stream **out) {
  if (!given || given == (void *)1) *out = &null_stream;
  else if (given == (void *)2) *out = &thread_stream;
  else if (!(*out = handle(given, HANDLE_STREAM))) return refuse(CONTEXT_DESTROYED, "%p is no stream, or one that was destroyed", given);
  return OK;
}

int not_while_capturing(const char *what) {
  int refused = capture_mode == MODE_GLOBAL ? captures || own_captures : capture_mode == MODE_THREAD && own_captures;
  return refused ? refuse(CAPTURE_UNSUPPORTED, "%s is not possible while a stream is captured", what) : OK;
}

static void invalidate_all(void) {
  for (Active *a = active; a; a = a->next) a->capture.invalid = 1;
}

static Node *copy_node(const Node *node) {
  Node *mine = malloc(sizeof *mine);
  if (!mine) return NULL;
  *mine = *node;
  mine->next = NULL;
  if (node->kind == NODE_KERNEL) {
    u8 *arguments = malloc(node->call.kernarg_bytes + 1);
    Region *regions = malloc((node->call.nregions + 1) * sizeof *regions);
    if (!arguments || !regions) return NULL;
    memcpy(arguments, node->call.kernarg, node->call.kernarg_bytes);
    if (node->call.exact) memcpy(regions, node->call.regions, node->call.nregions * sizeof *regions);
    mine->call.kernarg = arguments, mine->call.regions = regions;
  }
  return mine;
}

static int append(Graph *graph, const Node *node) {
  Node *mine = copy_node(node);
  if (!mine) return OUT_OF_MEMORY;
  if (graph->last) graph->last->next = mine;
  else graph->first = mine;
  graph->last = mine, graph->count++;
  return OK;
}

static void clear(Graph *graph) {
  for (Node *node = graph->first, *next; node; node = next) {
    next = node->next;
    if (node->kind == NODE_KERNEL) free((void *)node->call.kernarg), free((void *)node->call.regions);
    free(node);
  }
  graph->first = graph->last = NULL;
}

int capture_node(Stream *stream, const Node *node) {
  if (!stream->capture) {
    if (stream == &null_stream)
      for (Active *a = active; a; a = a->next)
        if (!(a->capture.origin->flags & NON_BLOCKING) && a->capture.mode != MODE_RELAXED) {
          invalidate_all();
          return refuse(CAPTURE_IMPLICIT, "work on the null stream while a stream is captured that waits for it");
        }
    return -1;
  }
  if (stream->capture->invalid) return refuse(CAPTURE_INVALIDATED, "the capture was invalidated by an earlier call");
  stream->ahead++;
  return done(append(stream->capture->graph, node));
}

int launch_node(Function *function, LaunchCall *call, Stream *stream) {
  Node node = {.kind = NODE_KERNEL, .call = *call, .function = function};
  int status = capture_node(stream, &node);
  if (status >= 0) return status;
  enter();
  status = run_launch(function, call);
  leave();
  return status;
}

// ---- streams
API hipStreamCreateWithPriority(Stream **out, unsigned flags, int priority) {
  if (!out || flags > NON_BLOCKING) return done(INVALID_VALUE);
  Stream *stream = *out = handle_new(HANDLE_STREAM, sizeof *stream);
  if (!stream) return done(OUT_OF_MEMORY);
  stream->flags = (int)flags, stream->device = current_device;
  stream->priority = priority < -1 ? -1 : priority > 1 ? 1 : priority;
  return done(OK);
}
API hipStreamCreateWithFlags(Stream **out, unsigned flags) { return hipStreamCreateWithPriority(out, flags, 0); }
API hipStreamCreate(Stream **out) { return hipStreamCreateWithPriority(out, 0, 0); }

API hipStreamDestroy(void *given) {
  if (!given) return refuse(INVALID_HANDLE, "hipStreamDestroy: the null stream cannot be destroyed");
  Stream *stream;
  int status = stream_of(given, &stream);
  if (status) return status;
  if (stream == &null_stream || stream == &thread_stream) return done(INVALID_HANDLE);
  if (stream->capture) return refuse(CAPTURE_UNSUPPORTED, "hipStreamDestroy: the stream is being captured");
  enter();
  leave();
  handle_free(stream, 0);
  return done(OK);
}

static int settled(void *given, const char *what) {  // of a stream that is not being captured, all work is done
  Stream *stream;
  int status = stream_of(given, &stream);
  if (status) return status;
  if (stream->capture) {
    stream->capture->invalid = 1;
    return refuse(CAPTURE_UNSUPPORTED, "%s: the stream is being captured", what);
  }
  if (stream == &null_stream && captures) return refuse(CAPTURE_IMPLICIT, "%s of the null stream while a stream is captured", what);
  enter();
  leave();
  return done(OK);
}
API hipStreamSynchronize(void *given) { return settled(given, "hipStreamSynchronize"); }
API hipStreamQuery(void *given) { return settled(given, "hipStreamQuery"); }

API hipStreamGetFlags(void *given, unsigned *out) {
  Stream *stream;
  int status = stream_of(given, &stream);
  if (!out) return done(INVALID_VALUE);
  if (!status) *out = (unsigned)stream->flags;
  return status;
}
API hipStreamGetPriority(void *given, int *out) {
  Stream *stream;
  int status = stream_of(given, &stream);
  if (!out) return done(INVALID_VALUE);
  if (!status) *out = stream->priority;
  return status;
}
API hipStreamGetDevice(void *given, int *out) {
  Stream *stream;
  int status = stream_of(given, &stream);
  if (!out) return done(INVALID_VALUE);
  if (!status) *out = stream->device < 0 ? current_device : stream->device;
  return status;
}

API hipGetStreamDeviceId(void *given) {
  int device = -1;
  return hipStreamGetDevice(given, &device) ? -1 : device;
}

// ---- events
API hipEventCreateWithFlags(Event **out, unsigned flags) {
  if (!out) return done(INVALID_VALUE);
  Event *event = *out = handle_new(HANDLE_EVENT, sizeof *event);
  if (!event) return done(OUT_OF_MEMORY);
  event->flags = (int)flags;
  return done(OK);
}
API hipEventCreate(Event **out) { return hipEventCreateWithFlags(out, 0); }

API hipEventDestroy(void *given) {
  return handle(given, HANDLE_EVENT) && handle_free(given, 0) ? done(OK) : refuse(INVALID_HANDLE, "hipEventDestroy: %p is no event", given);
}

API hipEventRecord(void *given, void *on) {
  Event *event = handle(given, HANDLE_EVENT);
  if (!event) return refuse(INVALID_HANDLE, "hipEventRecord: %p is no event", given);
  Stream *stream;
  int status = stream_of(on, &stream);
  if (status) return status;
  if (stream->capture) {
    event->capture = stream->capture->id, event->mark = (u64)stream->ahead, event->stream = stream;
    return done(OK);
  }
  enter();
  event->time = now(), event->recorded = 1, event->capture = 0;
  leave();
  return done(OK);
}
API hipEventRecordWithFlags(void *given, void *on, unsigned flags) { return flags > 1 ? done(INVALID_VALUE) : hipEventRecord(given, on); }

static int event_settled(void *given, const char *what) {
  Event *event = handle(given, HANDLE_EVENT);
  if (!event) return refuse(INVALID_HANDLE, "%s: %p is no event", what, given);
  if (event->capture) return refuse(CAPTURED_EVENT, "%s: the event was recorded in a stream that was being captured", what);
  enter();
  leave();
  return done(OK);
}
API hipEventSynchronize(void *given) { return event_settled(given, "hipEventSynchronize"); }
API hipEventQuery(void *given) { return event_settled(given, "hipEventQuery"); }

API hipEventElapsedTime(float *out, void *start, void *stop) {
  Event *a = handle(start, HANDLE_EVENT), *b = handle(stop, HANDLE_EVENT);
  if (!out) return done(INVALID_VALUE);
  if (!a || !b) return refuse(INVALID_HANDLE, "hipEventElapsedTime: not two events");
  if ((a->flags | b->flags) & NO_TIMING || !a->recorded || !b->recorded)
    return refuse(INVALID_HANDLE, "hipEventElapsedTime: an event that was not recorded, or was made without timing");
  *out = (float)((double)(b->time - a->time) / 1e6);
  return done(OK);
}

static int join(Active *a, Stream *stream) {
  if (a->nstreams == MOST_STREAMS) return refuse(CAPTURE_UNSUPPORTED, "more than %d streams in one capture", MOST_STREAMS);
  a->streams[a->nstreams++] = stream;
  stream->capture = &a->capture, stream->ahead = 1;  // has to be waited for by the stream where the capture began
  return OK;
}

API hipStreamWaitEvent(void *given, void *on, unsigned flags) {
  (void)flags;
  Event *event = handle(on, HANDLE_EVENT);
  if (!event) return refuse(INVALID_HANDLE, "hipStreamWaitEvent: %p is no event", on);
  Stream *stream;
  int status = stream_of(given, &stream);
  if (status) return status;
  Active *a = active;
  while (a && a->capture.id != event->capture) a = a->next;
  if (!event->capture || !a) {
    if (!stream->capture || (!event->capture && !event->recorded)) return done(OK);
    stream->capture->invalid = 1;
    return refuse(ISOLATION, "hipStreamWaitEvent: a captured stream waits for an event from outside its capture");
  }
  if (!stream->capture) {
    if (stream == &null_stream) return refuse(CAPTURE_IMPLICIT, "hipStreamWaitEvent: the null stream cannot be captured");
    return done(join(a, stream));
  }
  if (stream->capture != &a->capture) {
    stream->capture->invalid = a->capture.invalid = 1;
    return refuse(CAPTURE_MERGE, "hipStreamWaitEvent would merge two captures");
  }
  if (event->stream != stream) {
    if ((u64)event->stream->ahead == event->mark) event->stream->ahead = 0;
    stream->ahead++;
  }
  return done(OK);
}

// ---- capture
API hipStreamBeginCapture(void *given, int mode) {
  Stream *stream;
  int status = stream_of(given, &stream);
  if (status) return status;
  if (mode < MODE_GLOBAL || mode > MODE_RELAXED) return done(INVALID_VALUE);
  if (stream == &null_stream) return refuse(CAPTURE_UNSUPPORTED, "the null stream cannot be captured");
  if (stream->capture) return refuse(ILLEGAL_STATE, "the stream is being captured already");
  Active *a = calloc(1, sizeof *a);
  Graph *graph = handle_new(HANDLE_GRAPH, sizeof *graph);
  if (!a || !graph) return done(OUT_OF_MEMORY);
  a->capture = (Capture){graph, stream, 0, mode, ++last_capture};
  a->thread = &own_captures;
  join(a, stream);
  lock();
  a->next = active, active = a;
  captures += mode == MODE_GLOBAL, own_captures += mode != MODE_RELAXED;
  unlock();
  return done(OK);
}

API hipStreamEndCapture(void *given, Graph **out) {
  Stream *stream;
  int status = stream_of(given, &stream);
  if (status) return status;
  if (!out) return done(INVALID_VALUE);
  *out = NULL;
  Active *a = active_of(stream);
  if (!a) return refuse(ILLEGAL_STATE, "hipStreamEndCapture: the stream is not being captured");
  if (a->capture.origin != stream) return refuse(CAPTURE_UNMATCHED, "hipStreamEndCapture: the capture began on another stream");
  if (a->capture.mode != MODE_RELAXED && a->thread != &own_captures) return refuse(WRONG_THREAD, "hipStreamEndCapture: another thread began the capture");
  int unjoined = 0;
  for (int i = 0; i < a->nstreams; i++) {
    unjoined += a->streams[i] != stream && a->streams[i]->ahead;
    a->streams[i]->capture = NULL, a->streams[i]->ahead = 0;
  }
  lock();
  Active **link = &active;
  while (*link != a) link = &(*link)->next;
  *link = a->next;
  captures -= a->capture.mode == MODE_GLOBAL, own_captures -= a->capture.mode != MODE_RELAXED;
  unlock();
  Graph *graph = a->capture.graph;
  int invalid = a->capture.invalid;
  a->capture.id = 0;  // the record stays: another thread may be walking along it
  if (invalid || unjoined) {
    clear(graph);
    handle_free(graph, 0);
    return invalid ? refuse(CAPTURE_INVALIDATED, "hipStreamEndCapture: an earlier call invalidated the capture")
                   : refuse(CAPTURE_UNJOINED, "hipStreamEndCapture: %d streams were not waited for", unjoined);
  }
  *out = graph;
  return done(OK);
}

API hipStreamIsCapturing(void *given, int *out) {
  Stream *stream;
  int status = stream_of(given, &stream);
  if (status) return status;
  if (!out) return done(INVALID_VALUE);
  if (stream == &null_stream && captures) return refuse(CAPTURE_IMPLICIT, "hipStreamIsCapturing of the null stream while a stream is captured");
  *out = !stream->capture ? 0 : stream->capture->invalid ? 2 : 1;
  return done(OK);
}
API hipStreamGetCaptureInfo(void *given, int *state, u64 *id) {
  Stream *stream;
  int status = stream_of(given, &stream);
  if (status) return status;
  if (!state) return done(INVALID_VALUE);
  *state = !stream->capture ? 0 : stream->capture->invalid ? 2 : 1;
  if (id) *id = stream->capture ? stream->capture->id : 0;
  return done(OK);
}
API hipThreadExchangeStreamCaptureMode(int *mode) {
  if (!mode || *mode < MODE_GLOBAL || *mode > MODE_RELAXED) return done(INVALID_VALUE);
  int before = capture_mode;
  capture_mode = *mode, *mode = before;
  return done(OK);
}

// ---- graphs
API hipGraphInstantiateWithFlags(Graph **out, void *given, u64 flags) {
  (void)flags;
  Graph *graph = handle(given, HANDLE_GRAPH);
  if (!out) return done(INVALID_VALUE);
  if (!graph) return refuse(INVALID_VALUE, "hipGraphInstantiate: %p is no graph", given);
  Graph *exec = *out = handle_new(HANDLE_EXEC, sizeof *exec);
  int status = exec ? OK : OUT_OF_MEMORY;
  for (Node *node = graph->first; node && !status; node = node->next) status = append(exec, node);
  return done(status);
}
API hipGraphInstantiate(Graph **out, void *given, void **node, char *log, usize room) {
  (void)node, (void)log, (void)room;
  return hipGraphInstantiateWithFlags(out, given, 0);
}
API hipGraphUpload(void *given, void *stream) {
  Stream *s;
  int status = stream_of(stream, &s);
  return status ? status : done(handle(given, HANDLE_EXEC) ? OK : INVALID_VALUE);
}
API hipGraphGetNodes(void *given, void **nodes, usize *count) {
  Graph *graph = handle(given, HANDLE_GRAPH);
  if (!graph || !count) return done(INVALID_VALUE);
  if (nodes) return missing("hipGraphGetNodes with room for nodes");
  *count = graph->count;
  return done(OK);
}

API hipGraphLaunch(void *given, void *on) {
  Graph *exec = handle(given, HANDLE_EXEC);
  if (!exec) return refuse(INVALID_VALUE, "hipGraphLaunch: %p is no instantiated graph", given);
  Stream *stream;
  int status = stream_of(on, &stream);
  if (status) return status;
  if (stream->capture) return missing("hipGraphLaunch into a captured stream");
  Node nothing = {.kind = NODE_EMPTY};
  if ((status = capture_node(stream, &nothing)) >= 0) return status;  // only refuses here
  enter();
  status = OK;
  for (Node *node = exec->first; node && !status; node = node->next) {
    if (node->kind == NODE_KERNEL) status = run_launch(node->function, &node->call);
    if (node->kind == NODE_COPY) status = copy_now(node->to, node->from, node->size);
    if (node->kind == NODE_FILL) status = fill_now(node->to, node->from, node->size, node->count);
  }
  leave();
  return done(status);
}

static int forget(void *given, int kind, const char *what) {
  Graph *graph = handle(given, kind);
  if (!graph) return refuse(INVALID_VALUE, "%s: %p is none", what, given);
  enter();
  clear(graph);
  leave();
  handle_free(graph, 0);
  return done(OK);
}
API hipGraphDestroy(void *given) { return forget(given, HANDLE_GRAPH, "hipGraphDestroy"); }
API hipGraphExecDestroy(void *given) { return forget(given, HANDLE_EXEC, "hipGraphExecDestroy"); }
