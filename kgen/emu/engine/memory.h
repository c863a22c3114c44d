// Memory: bounds to the byte for global memory, LDS and scratch; races in LDS; traffic counts.
#ifndef KGEN_EMU_MEMORY_H
#define KGEN_EMU_MEMORY_H
#include "machine.h"

// The region that holds all of [a, a + n), or NULL. Regions may overlap (views of one storage): `reach` tells when to stop looking back.
static const Region *find_region(const Machine *m, u64 a, u64 n, int wr) {
  u32 lo = 0, hi = m->nregions;
  while (lo < hi) {
    u32 mid = (lo + hi) / 2;
    if (m->regions[mid].base <= a) lo = mid + 1;
    else hi = mid;
  }
  for (u32 i = lo; i-- > 0 && m->regions[i].reach >= a + n;) {
    const Region *r = &m->regions[i];
    if (a + n <= r->base + r->size && (!wr || r->flags & 1)) return r;
  }
  return NULL;
}
// Host address of [a, a + n) without reporting a fault; NULL when it is not inside one region that may be used so.
static inline u8 *gprobe(Machine *m, u64 a, u64 n, int wr) {
  if (a + n < a || !m->nregions) return NULL;
  const Region *r = &m->regions[m->last];
  if (a < r->base || a + n > r->base + r->size || (wr && !(r->flags & 1))) {
    r = find_region(m, a, n, wr);
    if (!r) return NULL;
    m->last = (u32)(r - m->regions);
  }
  return r->host + (a - r->base);
}
static inline u8 *gmem(Machine *m, u64 a, u32 n, int wr, u32 lane) {
  u8 *p = gprobe(m, a, n, wr);
  if (!p) fail(m, wr ? E_MEM_WRITE : E_MEM_READ, lane, a, n);
  return p;
}

enum { ACCESS_READ, ACCESS_WRITE, ACCESS_ATOMIC, ACCESS_SAME };  // SAME: a write of the value that is there already, which harms nobody

static int lds_race(Machine *m, Wave *w, u32 a, u32 n, u32 lane, int kind) {
  for (u32 i = a; i < a + n; i++) {
    Shadow *s = &w->shadow[i];
    u32 ep = (u32)w->epoch, me = w->wave_id;
    int written = s->wepoch == ep && s->wwave != me, read = s->repoch == ep && (s->readers > 1 || s->rwave != me);
    if ((written && !(kind == ACCESS_ATOMIC && s->atomic)) || (read && kind)) {
      m->err_aux = (written ? s->wwave : s->rwave) | (written ? 0x10000 : 0) | (u32)kind << 20;
      fail(m, E_RACE, lane, a, n);
      return 1;
    }
    if (kind == ACCESS_READ) {
      if (s->repoch != ep) {
        s->repoch = ep;
        s->rwave = (u16)me;
        s->readers = 1;
      } else if (s->rwave != me) s->readers = 2;
    } else {
      s->wepoch = ep;
      s->wwave = (u16)me;
      s->atomic = kind == ACCESS_ATOMIC;
    }
  }
  return 0;
}
static inline u8 *lmem(Machine *m, Wave *w, u32 a, u32 n, u32 lane, int kind) {
  if ((u64)a + n > w->lds_size) {
    fail(m, E_LDS, lane, a, n);
    return NULL;
  }
  if (w->shadow && kind != ACCESS_SAME && lds_race(m, w, a, n, lane, kind)) return NULL;
  return w->lds + a;
}
static inline u8 *pmem(Machine *m, Wave *w, u64 a, u32 n, u32 lane) {
  if (a + n > w->priv_size || a + n < a) {
    fail(m, E_SCRATCH, lane, a, n);
    return NULL;
  }
  return w->scratch + (u64)lane * w->scratch_stride + a;
}
#define APERTURE_SHARED 0x00010000u
#define APERTURE_PRIVATE 0x00020000u

// ---- traffic counts (only when they are asked for)

// different lines of 1 << shift bytes that one wave instruction touches
static u32 lines_touched(const u64 *ad, u64 lanes, u32 n, u32 shift) {
  u64 seen[64 * 2];
  u32 count = 0;
  for (u64 todo = lanes; todo; todo &= todo - 1) {
    u64 a = ad[__builtin_ctzll(todo)];
    for (u64 line = a >> shift; line <= (a + n - 1) >> shift && count < 128; line++) {
      u32 i = count;
      while (i > 0 && seen[i - 1] != line) i--;
      if (!i) seen[count++] = line;
    }
  }
  return count;
}
static void count_global(Machine *m, const u64 *ad, u64 lanes, u32 n, int wr) {
  Traffic *t = m->traffic;
  u64 bytes = (u64)__builtin_popcountll(lanes) * n;
  if (!lanes) return;
  if (wr) t->stored += bytes;
  else t->loaded += bytes;
  t->accesses++;
  t->lines64 += lines_touched(ad, lanes, n, 6);
  t->lines128 += lines_touched(ad, lanes, n, 7);
}
// LDS has 32 banks of 4 bytes and moves 128 bytes a cycle, so 4-byte accesses go 32 lanes at a time, 8-byte ones 16, 16-byte ones 8.
// A bank serves one dword a cycle; lanes that want the same dword share it. Counted are such passes that have lanes, and the cycles of each beyond the first.
static void count_lds(Machine *m, const u64 *ad, u64 lanes, u32 n) {
  u32 pass = n <= 4 ? 32 : n <= 8 ? 16 : 8;
  m->traffic->lds_accesses++;
  for (u32 first = 0; first < 64; first += pass) {
    if (!(lanes >> first & ((1ull << pass) - 1))) continue;
    m->traffic->lds_passes++;
    u32 dwords[32][32], used[32] = {0}, worst = 1;
    for (u32 l = first; l < first + pass; l++) {
      if (!(lanes >> l & 1)) continue;
      for (u64 d = ad[l] / 4; d <= (ad[l] + n - 1) / 4; d++) {
        u32 bank = d & 31, i = 0;
        while (i < used[bank] && dwords[bank][i] != (u32)d) i++;
        if (i == used[bank]) {
          dwords[bank][i] = (u32)d;
          used[bank]++;
        }
        worst = MAX(worst, used[bank]);
      }
    }
    m->traffic->lds_conflicts += worst - 1;
  }
}
#endif
