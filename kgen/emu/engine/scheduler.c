// Work-groups over threads, waves of a work-group over time, barriers.
//
// Work-groups are handed out in order. A thread keeps `slots` of them in flight and gives each in turn one round over its waves; a wave
// runs to its next barrier, yield or quantum. Nothing a work-group does depends on which thread runs it or on what the others do, except
// through global memory, so a kernel whose groups are independent gives the same bits for any number of threads. If several
// groups fail, the one with the lowest number is reported: every group before it runs to its end first.
#include "launch.h"

#define SLICE 65536        // instructions between two looks at the shared counters
#define BREATH 4000000ull  // instructions between two returns to Python

typedef struct {
  Wave *waves;
  u8 *block;  // block: the allocation that holds waves
  u8 *lds, *scratch;
  Shadow *shadow;
  u8 *done, *waiting;
  u32 *order;
  u32 at, ended, in_round;  // position in `order` of the round under way; waves that have ended
  u64 id, rng, used;        // used: instructions of the current wave's turn
} Group;

typedef struct Shared Shared;
typedef struct {
  Machine m;
  Shared *shared;
  Group *slots, **live, **idle;
  u32 nslots, nlive, nidle, cur;
  u64 instructions, waves, groups;
  Traffic traffic;
  unsigned long thread;
  int started;
} Worker;

struct Shared {
  Launch *launch;
  Worker *workers;
  u32 nworkers, nwaves, threads_per_group, scratch_stride;
  u64 total;
  u64 next, spent, stop_at;  // shared: next group, instructions so far, no group from here on is run
  u32 pause, lock, undecoded;
  u64 breather;  // pause when `spent` gets here
  u64 decode_pc;
  Failure failure;
};

static u64 mix(u64 *state) {  // splitmix64
  u64 z = *state += 0x9e3779b97f4a7c15ull;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}
static void fill(void *p, u32 pattern, u64 bytes) {
  u32 *q = p;
  for (u64 i = 0; i < bytes / 4; i++) q[i] = pattern;
}
static u64 round4(u64 n) { return (n + 3) & ~3ull; }

static int make_group(Group *g, const Shared *s) {
  const Launch *L = s->launch;
  u64 scratch = (u64)s->scratch_stride * L->wave_size * s->nwaves;
  u8 *waves = g->block = calloc(s->nwaves * sizeof(Wave) + 64, 1);
  g->shadow = NULL;
  g->waves = (Wave *)(waves ? waves + (64 - (u64)(usize)waves % 64) : NULL);
  g->lds = malloc(round4(L->lds_size) + 64);
  g->scratch = malloc(scratch + 64);
  g->done = calloc(s->nwaves, 2);
  g->order = calloc(s->nwaves, sizeof(u32));
  if (L->races) g->shadow = calloc((u64)L->lds_size + 64, sizeof(Shadow));
  g->waiting = g->done + s->nwaves;
  return waves && g->lds && g->scratch && g->done && g->order && (g->shadow || !L->races);
}

static void start_wave(Wave *w, const Shared *s, const Group *g, u32 i) {
  const Launch *L = s->launch;
  u32 ws = L->wave_size, first = i * ws, count = MIN(ws, s->threads_per_group - first), id[3], j = L->first_id;
  u64 mask = count == 64 ? ~0ull : (1ull << count) - 1;
  id[0] = (u32)(g->id % L->grid[0]);
  id[1] = (u32)(g->id / L->grid[0] % L->grid[1]);
  id[2] = (u32)(g->id / ((u64)L->grid[0] * L->grid[1]));
  memset(w, 0, __builtin_offsetof(Wave, v));
  fill(w->s, L->poison, sizeof w->s);
  fill(w->v, L->poison, (u64)L->vgprs * sizeof w->v[0]);
  fill(w->v[256], L->poison, (u64)L->agprs * sizeof w->v[0]);
  w->ws = ws;
  w->mode = L->mode;
  w->pc = L->entry;
  w->wave_id = w->hwid = i;
  w->priv_size = L->priv_size;
  w->scratch_stride = s->scratch_stride;
  w->scratch = g->scratch + (u64)s->scratch_stride * ws * i;
  w->lds = g->lds;
  w->lds_size = L->lds_size;
  w->shadow = g->shadow;
  w->epoch = 1;
  memcpy(w->s, L->user, L->nuser * 4);
  w->s[126] = (u32)mask;
  w->s[127] = (u32)(mask >> 32);
  w->s[106] = w->s[107] = 0;
  if (L->arch == RDNA4) {
    w->s[108 + 9] = id[0];
    w->s[108 + 7] = id[1] | id[2] << 16;
  } else
    for (u32 k = 0; k < 3; k++)
      if (L->group_ids >> k & 1) w->s[j++] = id[k];
  for (u32 l = 0; l < ws; l++) {  // work-item ids, packed 10 bits each
    u32 t = l < count ? first + l : 0, x = t % L->block[0], y = t / L->block[0] % L->block[1], z = t / (L->block[0] * L->block[1]);
    w->v[0][l] = x | (L->dims >= 1 ? y << 10 : 0) | (L->dims >= 2 ? z << 20 : 0);
  }
}

static void start_group(Group *g, const Shared *s, u64 id) {
  const Launch *L = s->launch;
  g->id = id;
  g->at = g->ended = g->in_round = 0;
  g->used = 0;
  g->rng = L->seed * 0x2545f4914f6cdd1dull + id;
  memset(g->done, 0, s->nwaves * 2);
  fill(g->lds, L->poison, round4(L->lds_size));
  fill(g->scratch, L->poison, (u64)s->scratch_stride * L->wave_size * s->nwaves);
  if (L->races) memset(g->shadow, 0, ((u64)L->lds_size + 64) * sizeof(Shadow));
  for (u32 i = 0; i < s->nwaves; i++) start_wave(&g->waves[i], s, g, i);
}

static void begin_round(Group *g, const Shared *s) {
  u32 n = s->nwaves;
  for (u32 i = 0; i < n; i++) g->order[i] = s->launch->order == ORDER_REVERSE ? n - 1 - i : i;
  if (s->launch->order != ORDER_RANDOM) return;
  for (u32 i = n; i > 1; i--) {
    u32 j = (u32)(mix(&g->rng) % i), t = g->order[i - 1];
    g->order[i - 1] = g->order[j];
    g->order[j] = t;
  }
}

static void lock(Shared *s) {
  while (__atomic_exchange_n(&s->lock, 1, __ATOMIC_ACQUIRE)) {}
}
static void unlock(Shared *s) { __atomic_store_n(&s->lock, 0, __ATOMIC_RELEASE); }

static void report(Worker *k, const Group *g, u32 code, u32 wave) {
  Shared *s = k->shared;
  Machine *m = &k->m;
  lock(s);
  if (g->id < s->stop_at) {
    s->failure = (Failure){code, m->err_lane, m->err_size, m->err_aux, m->err_addr, g->waves[wave].pc, g->id, wave, s->launch->lds_size};
    __atomic_store_n(&s->stop_at, g->id, __ATOMIC_SEQ_CST);
  }
  unlock(s);
}

enum { TURN_AGAIN, TURN_ENDED, TURN_FAILED, TURN_PAUSED };

// Run wave i until it ends, waits, or has used its quantum.
static int run_turn(Worker *k, Group *g, u32 i) {
  Shared *s = k->shared;
  const Launch *L = s->launch;
  Wave *w = &g->waves[i];
  for (;;) {
    u64 spent = __atomic_load_n(&s->spent, __ATOMIC_RELAXED), slice = SLICE, before = w->count;
    if (g->id >= __atomic_load_n(&s->stop_at, __ATOMIC_RELAXED)) return TURN_FAILED;
    if (spent >= s->breather) __atomic_store_n(&s->pause, 1, __ATOMIC_RELAXED);
    if (__atomic_load_n(&s->pause, __ATOMIC_RELAXED)) return TURN_PAUSED;
    if (spent >= L->limit) {
      report(k, g, E_LIMIT, i);
      return TURN_FAILED;
    }
    slice = MIN(slice, L->limit - spent);
    if (L->quantum) slice = MIN(slice, L->quantum - g->used);
    int st = run_wave(&k->m, w, (i64)slice);
    u64 ran = w->count - before;
    g->used += ran;
    k->instructions += ran;
    __atomic_fetch_add(&s->spent, ran, __ATOMIC_RELAXED);
    if (st == ST_ERROR) {
      report(k, g, k->m.err, i);
      return TURN_FAILED;
    }
    if (st == ST_DECODE) {
      lock(s);
      s->decode_pc = w->pc;
      s->undecoded = s->pause = 1;
      unlock(s);
      return TURN_PAUSED;
    }
    if (st == ST_END) {
      g->done[i] = 1;
      g->ended++;
      k->waves++;
      break;
    }
    if (st == ST_BARRIER) {
      g->waiting[i] = 1;
      break;
    }
    if (st == ST_YIELD || (L->quantum && g->used >= L->quantum)) break;
  }
  g->used = 0;
  return TURN_AGAIN;
}

// One round over the waves of a group, and the barrier when all of them are there.
static int run_round(Worker *k, Group *g) {
  u32 n = k->shared->nwaves, stopped = 0;
  if (!g->in_round) begin_round(g, k->shared);
  g->in_round = 1;
  for (; g->at < n; g->at++) {
    u32 i = g->order[g->at];
    if (g->done[i] || g->waiting[i]) continue;
    int r = run_turn(k, g, i);
    if (r != TURN_AGAIN) return r;
  }
  g->at = g->in_round = 0;
  for (u32 i = 0; i < n; i++) stopped += g->done[i] || g->waiting[i];
  if (stopped == n) {
    memset(g->waiting, 0, n);
    for (u32 i = 0; i < n; i++) g->waves[i].epoch++;
  }
  return g->ended == n ? TURN_ENDED : TURN_AGAIN;
}

static void work(Worker *k) {
  Shared *s = k->shared;
  for (;;) {
    while (k->nidle) {
      u64 limit = MIN(s->total, __atomic_load_n(&s->stop_at, __ATOMIC_RELAXED));
      if (__atomic_load_n(&s->next, __ATOMIC_RELAXED) >= limit) break;
      u64 id = __atomic_fetch_add(&s->next, 1, __ATOMIC_SEQ_CST);
      if (id >= limit) break;
      Group *g = k->idle[--k->nidle];
      start_group(g, s, id);
      k->live[k->nlive++] = g;
    }
    if (!k->nlive) return;
    while (k->cur < k->nlive) {
      Group *g = k->live[k->cur];
      int r = run_round(k, g);
      if (r == TURN_PAUSED) return;
      if (r == TURN_AGAIN) {
        k->cur++;
        continue;
      }
      if (r == TURN_ENDED) k->groups++;
      k->idle[k->nidle++] = g;
      k->nlive--;
      for (u32 i = k->cur; i < k->nlive; i++) k->live[i] = k->live[i + 1];
    }
    k->cur = 0;
  }
}
static void *work_thread(void *p) {
  work(p);
  return NULL;
}

static int make_worker(Worker *k, Shared *s, u32 slots) {
  Launch *L = s->launch;
  k->shared = s;
  k->nslots = slots;
  k->m = (Machine){.arch = L->arch,
                   .fnuz = L->fnuz,
                   .code_base = L->code_base,
                   .code_words = L->code_words,
                   .pcmap = L->pcmap,
                   .insns = L->insns,
                   .regions = L->regions,
                   .nregions = L->nregions};
  if (L->count_memory) k->m.traffic = &k->traffic;
  if (L->count_ops && !(k->m.counts = calloc(L->ninsns, 8))) return 0;
  k->slots = calloc(slots, sizeof(Group));
  k->live = calloc(slots, sizeof(Group *));
  k->idle = calloc(slots, sizeof(Group *));
  if (!k->slots || !k->live || !k->idle) return 0;
  for (u32 i = 0; i < slots; i++) {
    if (!make_group(&k->slots[i], s)) return 0;
    k->idle[k->nidle++] = &k->slots[slots - 1 - i];
  }
  return 1;
}

static int begin(Launch *L) {
  Shared *s = calloc(1, sizeof *s);
  if (!(L->state = s)) return 0;
  s->launch = L;
  s->total = (u64)L->grid[0] * L->grid[1] * L->grid[2];
  s->threads_per_group = L->block[0] * L->block[1] * L->block[2];
  s->nwaves = (s->threads_per_group + L->wave_size - 1) / L->wave_size;
  s->scratch_stride = (L->priv_size + 15) & ~15u;
  s->stop_at = ~0ull;
  u64 flight = MIN(MAX(L->concurrent, 1), s->total);
  s->nworkers = (u32)MAX(MIN(L->threads, s->total), 1);
  u32 slots = (u32)((flight + s->nworkers - 1) / s->nworkers);
  if (!(s->workers = calloc(s->nworkers, sizeof(Worker)))) return 0;
  for (u32 i = 0; i < s->nworkers; i++)
    if (!make_worker(&s->workers[i], s, MAX(slots, 1))) return 0;
  return 1;
}

void kgen_emu_end(Launch *L) {
  Shared *s = L->state;
  if (!s) return;
  for (u32 i = 0; s->workers && i < s->nworkers; i++) {
    Worker *k = &s->workers[i];
    for (u32 j = 0; k->slots && j < k->nslots; j++) {
      Group *g = &k->slots[j];
      free(g->block);
      free(g->lds);
      free(g->scratch);
      free(g->done);
      free(g->order);
      free(g->shadow);
    }
    free(k->slots);
    free(k->live);
    free(k->idle);
    free(k->m.counts);
  }
  free(s->workers);
  free(s);
  L->state = NULL;
}

static void collect(Launch *L, Shared *s) {
  L->instructions = L->waves = L->groups = 0;
  L->traffic = (Traffic){0};
  for (u32 i = 0; i < s->nworkers; i++) {
    Worker *k = &s->workers[i];
    const u64 *from = (const u64 *)&k->traffic;
    u64 *to = (u64 *)&L->traffic;
    L->instructions += k->instructions;
    L->waves += k->waves;
    L->groups += k->groups;
    for (u32 j = 0; j < sizeof(Traffic) / 8; j++) to[j] += from[j];
    for (u32 j = 0; L->counts && k->m.counts && j < L->ninsns; j++) L->counts[j] += k->m.counts[j];
  }
}

int kgen_emu_run(Launch *L) {
  if (!L->state && !begin(L)) {
    kgen_emu_end(L);
    L->failure.code = E_NO_MEMORY;
    return LAUNCH_FAILED;
  }
  Shared *s = L->state;
  s->pause = s->undecoded = 0;
  s->breather = s->spent + BREATH;
  for (u32 i = 1; i < s->nworkers; i++) s->workers[i].started = !pthread_create(&s->workers[i].thread, NULL, work_thread, &s->workers[i]);
  work(&s->workers[0]);
  for (u32 i = 1; i < s->nworkers; i++) {
    if (s->workers[i].started) pthread_join(s->workers[i].thread, NULL);
    else work(&s->workers[i]);  // no thread to be had: this one does its share
  }
  if (s->undecoded) {
    L->decode_pc = s->decode_pc;
    return LAUNCH_DECODE;
  }
  if (s->pause) return LAUNCH_AGAIN;
  collect(L, s);
  L->failure = s->failure;
  return s->stop_at != ~0ull ? LAUNCH_FAILED : LAUNCH_DONE;
}

u64 kgen_emu_sizes(int i) {
  static const u64 sizes[] = {sizeof(Insn), sizeof(Region), sizeof(Launch), sizeof(Failure), sizeof(Traffic)};
  return sizes[i];
}
