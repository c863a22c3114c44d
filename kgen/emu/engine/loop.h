// The run loop and its specialised handlers for waves of WAVE lanes. Included once per wave size; NAME makes the functions' names differ.
#define FULL (WAVE == 64 ? ~0ull : 0xffffffffull)
#define ALL EACH_LANE_ALONE for (u32 l = 0; l < WAVE; l++)

// d = a.lo * b.lo + a.hi * b.hi + c, products and sum in double
static void NAME(dot2_f16)(const u32 *a, const u32 *b, const u32 *c, u32 *d) {
  float alo[WAVE], ahi[WAVE], blo[WAVE], bhi[WAVE];
  halves(a, alo, ahi, WAVE);
  halves(b, blo, bhi, WAVE);
  ALL d[l] = fb((float)((double)alo[l] * blo[l] + (double)ahi[l] * bhi[l] + bf(c[l])));
}

static inline __attribute__((always_inline)) void NAME(valu)(Machine *m, Wave *w, const Insn *in, u32 handler) {
  u32 t0[WAVE], t1[WAVE], t2[WAVE], *d = w->v[in->dst - 256];
  const u32 *s0, *s1, *s2;
#define SRC_INT(k, t) spread_source(m, w, in, k, t, WAVE)
#define SRC_FLOAT(k, t) spread_float(m, w, in, k, t, WAVE)
#define SRC_DOT(k, t) spread(m, w, in, in->src[k], t, WAVE)
#define SRC_SUM(k, t) spread_float(m, w, in, k, t, WAVE)
#define THIRD_INT(n) (n > 2 ? SRC_INT(2, t2) : s0)
#define THIRD_FLOAT(n) (n > 2 ? SRC_FLOAT(2, t2) : s0)
#define THIRD_DOT(n) SRC_INT(2, t2)
#define THIRD_SUM(n) d
#define X(name, n, kind, e)                \
  case FAST_##name:                        \
    s0 = SRC_##kind(0, t0);                \
    s1 = n > 1 ? SRC_##kind(1, t1) : s0;   \
    s2 = THIRD_##kind(n);                  \
    ALL {                                  \
      u32 a = s0[l], b = s1[l], c = s2[l]; \
      (void)a;                             \
      (void)b;                             \
      (void)c;                             \
      d[l] = e;                            \
    }                                      \
    break;
  switch (handler) {
    case FAST_DOT2_F16: NAME(dot2_f16)(SRC_DOT(0, t0), SRC_DOT(1, t1), SRC_INT(2, t2), d); break;
    case FAST_DOT2_F16_SUM:
      NAME(dot2_f16)(SRC_INT(0, t0), SRC_INT(1, t1), d, d);
      break;
      FAST_VALU(X)
  }
#undef X
}
static __attribute__((noinline)) void NAME(valu_half)(Machine *m, Wave *w, const Insn *in) { NAME(valu)(m, w, in, in->spare); }

static void NAME(cndmask)(Machine *m, Wave *w, const Insn *in) {
  u32 t0[WAVE], t1[WAVE], *d = w->v[in->dst - 256];
  u64 mask = rmask(m, w, in, in->src[2]);
  const u32 *a = spread_float(m, w, in, 0, t0, WAVE), *b = spread_float(m, w, in, 1, t1, WAVE);
  u32 half[2] = {(u32)mask, (u32)(mask >> 32)};
  for (u32 h = 0; h < WAVE; h += 32) {
    u32 bits = half[h / 32];
    EACH_LANE_ALONE for (u32 l = 0; l < 32; l++) d[h + l] = bits >> l & 1 ? b[h + l] : a[h + l];
  }
}
static inline u64 NAME(gather_bits)(const u32 *t) {  // bit l = bit 0 of t[l]
  u64 r = 0;
  for (u32 l = 0; l < WAVE; l++) r |= (u64)(t[l] & 1) << l;
  return r;
}
// A condition is a sum of 1 less, 2 equal, 4 greater, 8 unordered.
static void NAME(compare)(Machine *m, Wave *w, const Insn *in) {
  u32 t0[WAVE], t1[WAVE], r[WAVE], c = in->a[0], lt = c & 1, eq = c >> 1 & 1, gt = c >> 2 & 1, un = c >> 3 & 1;
  if (in->a[1] == T_f32) {
    const u32 *a = spread_float(m, w, in, 0, t0, WAVE), *b = spread_float(m, w, in, 1, t1, WAVE);
    ALL {
      float x = bf(a[l]), y = bf(b[l]);
      r[l] = (lt & (x < y)) | (eq & (x == y)) | (gt & (x > y)) | (un & (x != x || y != y));
    }
  } else {
    const u32 *a = spread(m, w, in, in->src[0], t0, WAVE), *b = spread(m, w, in, in->src[1], t1, WAVE);
    u32 flip = in->a[1] == T_i32 ? 0x80000000u : 0;
    ALL {
      u32 x = a[l] ^ flip, y = b[l] ^ flip;
      r[l] = (lt & (x < y)) | (eq & (x == y)) | (gt & (x > y));
    }
  }
  wmask(m, w, in->sdst, NAME(gather_bits)(r));
}
static void NAME(add_with_carry)(Machine *m, Wave *w, const Insn *in) {
  u32 t0[WAVE], t1[WAVE], carry[WAVE], *d = w->v[in->dst - 256];
  u64 cin = in->nsrc == 3 ? rmask(m, w, in, in->src[2]) : 0;
  const u32 *a = spread(m, w, in, in->src[0], t0, WAVE), *b = spread(m, w, in, in->src[1], t1, WAVE);
  for (u32 h = 0; h < WAVE; h += 32) {
    u32 bits = (u32)(cin >> h);
    EACH_LANE_ALONE for (u32 l = 0; l < 32; l++) {
      u32 x = a[h + l], s = x + b[h + l], r = s + (bits >> l & 1);
      carry[h + l] = (s < x) | (r < s);
      d[h + l] = r;
    }
  }
  wmask(m, w, in->sdst, NAME(gather_bits)(carry));
}
static void NAME(shift64)(Machine *m, Wave *w, const Insn *in) {  // V_LSHLREV_B64, V_LSHL_ADD_U64
  u32 t[WAVE], *lo = w->v[in->dst - 256], *hi = w->v[in->dst - 255];
  u64 x[WAVE], y[WAVE];
  int add = in->fast == FAST_LSHL_ADD64;
  spread64(m, w, in, in->src[add ? 0 : 1], x, WAVE);
  const u32 *by = spread(m, w, in, in->src[add ? 1 : 0], t, WAVE);
  if (add) spread64(m, w, in, in->src[2], y, WAVE);
  else memset(y, 0, sizeof y);
  u32 most = add ? 7 : 63;
  for (u32 l = 0; l < WAVE; l++) x[l] = (x[l] << (by[l] & most)) + y[l];
  ALL {
    lo[l] = (u32)x[l];
    hi[l] = (u32)(x[l] >> 32);
  }
}
static void NAME(packed_f32)(Machine *m, Wave *w, const Insn *in) {  // two f32 operations on register pairs, no modifiers
  for (u32 h = 0; h < 2; h++) {
    u32 t[3][WAVE], *d = w->v[in->dst - 256 + h];
    const u32 *s[3];
    for (u32 k = 0; k < (in->op == OP_V_PK_FMA_F32 ? 3 : 2); k++)
      s[k] = spread(m, w, in, in->src[k] < 128 || in->src[k] >= 256 ? in->src[k] + h : in->src[k], t[k], WAVE);
    if (in->op == OP_V_PK_FMA_F32) ALL d[l] = fb(fmaf(bf(s[0][l]), bf(s[1][l]), bf(s[2][l])));
    else if (in->op == OP_V_PK_MUL_F32) ALL d[l] = fb(bf(s[0][l]) * bf(s[1][l]));
    else ALL d[l] = fb(bf(s[0][l]) + bf(s[1][l]));
  }
}

#if WAVE == 64
// Sixteen 4x4x4 products of 16-bit elements: lane i of a group of four holds row i of A and column i of B, four elements of K each.
static void mfma_4x4x4(Machine *m, Wave *w, const Insn *in) {
  float x[4][WAVE], y[4][WAVE];
  double a[4][WAVE], b[4][WAVE], sum[4][WAVE];
  for (u32 r = 0; r < 2; r++) {
    const u32 *p = w->v[in->src[0] - 256 + r], *q = w->v[in->src[1] - 256 + r];
    if (in->a[4] == 1) {
      halves(p, x[2 * r], x[2 * r + 1], WAVE);
      halves(q, y[2 * r], y[2 * r + 1], WAVE);
    } else ALL {
        x[2 * r][l] = bf(p[l] << 16);
        x[2 * r + 1][l] = bf(p[l] & 0xffff0000u);
        y[2 * r][l] = bf(q[l] << 16);
        y[2 * r + 1][l] = bf(q[l] & 0xffff0000u);
      }
  }
  for (u32 k = 0; k < 4; k++) ALL {
      a[k][l] = x[k][l];
      b[k][l] = y[k][l];
    }
  for (u32 r = 0; r < 4; r++)
    for (u32 g = 0; g < WAVE; g += 4)
      for (u32 c = 0; c < 4; c++) {
        double s = 0;
        for (u32 k = 0; k < 4; k++) s += a[k][g + r] * b[k][g + c];
        sum[r][g + c] = s;
      }
  u32 t[WAVE];
  for (u32 r = 0; r < 4;
       r++) {  // all of C is read before any of D is written only if they are the same registers or apart: prepare() saw to it
    const u32 *c = spread(m, w, in, in->src[2] >= 256 ? in->src[2] + r : in->src[2], t, WAVE);
    u32 *d = w->v[in->dst - 256 + r];
    ALL d[l] = fb((float)(sum[r][l] + bf(c[l])));
  }
}
#endif

// ---- memory: one check for the span of all lanes, then plain copies. 0 = not possible that way, the general handler decides

// n / 4 dwords per lane from p + offset[l] into registers from row on
static inline void NAME(rows_from)(u32 (*row)[64], const u8 *p, const u32 *offset, u32 n) {
  int dense = 1;
  for (u32 l = 0; l < WAVE; l++) dense &= offset[l] == l * n;
  if (dense && n == 16) {
    for (u32 l = 0; l < WAVE; l++) {
      u32 x[4];
      memcpy(x, p + 16 * l, 16);
      row[0][l] = x[0];
      row[1][l] = x[1];
      row[2][l] = x[2];
      row[3][l] = x[3];
    }
    return;
  }
  if (dense && n == 4) {
    memcpy(row[0], p, 4 * WAVE);
    return;
  }
  for (u32 i = 0; i < n / 4; i++)
    for (u32 l = 0; l < WAVE; l++) memcpy(&row[i][l], p + offset[l] + 4 * i, 4);
}
static inline void NAME(rows_to)(u32 (*row)[64], u8 *p, const u32 *offset, u32 n) {
  for (u32 l = 0; l < WAVE; l++)  // lane by lane: if lanes overlap, the highest one wins, as in the general handler
    for (u32 i = 0; i < n / 4; i++) memcpy(p + offset[l] + 4 * i, &row[i][l], 4);
}
// Host address of the lowest lane's element, and every lane's distance to it
static inline u8 *NAME(global_span)(Machine *m, Wave *w, const Insn *in, int wr, u32 *offset) {
  u32 va = in->src[0] - 256, n = in->a[0];
  u64 lowest, span;
  if (in->src[1] < 124) {
    const u32 *v = w->v[va];
    u32 lo = ~0u, hi = 0;
    for (u32 l = 0; l < WAVE; l++) {
      lo = MIN(lo, v[l]);
      hi = MAX(hi, v[l]);
    }
    for (u32 l = 0; l < WAVE; l++) offset[l] = v[l] - lo;
    lowest = ((u64)w->s[in->src[1]] | (u64)w->s[in->src[1] + 1] << 32) + lo + (u64)(i64)in->imm;
    span = hi - lo;
  } else {
    const u32 *vl = w->v[va], *vh = w->v[va + 1];
    u64 a[WAVE], lo = ~0ull, hi = 0;
    for (u32 l = 0; l < WAVE; l++) a[l] = vl[l] | (u64)vh[l] << 32;
    for (u32 l = 0; l < WAVE; l++) {
      lo = MIN(lo, a[l]);
      hi = MAX(hi, a[l]);
    }
    if ((hi - lo) >> 31) return NULL;
    for (u32 l = 0; l < WAVE; l++) offset[l] = (u32)(a[l] - lo);
    lowest = lo + (u64)(i64)in->imm;
    span = hi - lo;
  }
  return gprobe(m, lowest, span + n, wr);
}
static int NAME(load_global)(Machine *m, Wave *w, const Insn *in) {
  u32 offset[WAVE];
  const u8 *p = NAME(global_span)(m, w, in, 0, offset);
  if (!p) return 0;
  NAME(rows_from)(&w->v[in->dst - 256], p, offset, in->a[0]);
  return 1;
}
static int NAME(store_global)(Machine *m, Wave *w, const Insn *in) {
  u32 offset[WAVE];
  u8 *p = NAME(global_span)(m, w, in, 1, offset);
  if (!p) return 0;
  NAME(rows_to)(&w->v[in->dst - 256], p, offset, in->a[0]);
  return 1;
}
// Offsets into LDS of all lanes at a constant distance; 0 if any would leave it
static inline int NAME(lds_span)(const Wave *w, const Insn *in, u32 at, u32 *offset) {
  const u32 *v = w->v[in->src[0] - 256];
  u32 hi = 0;
  for (u32 l = 0; l < WAVE; l++) {
    offset[l] = v[l] + at;
    hi = MAX(hi, offset[l]);
  }
  return (u64)hi + in->a[0] <= w->lds_size;
}
static int NAME(load_lds)(Wave *w, const Insn *in) {
  u32 first[WAVE], second[WAVE], n = in->a[0], two = in->a[1] & 16, step = n * in->a[3];
  u32 o0 = two ? ((u32)in->imm & 255) * step : (u16)in->imm, o1 = ((u32)in->imm >> 8 & 255) * step;
  if (!NAME(lds_span)(w, in, o0, first) || (two && !NAME(lds_span)(w, in, o1, second))) return 0;
  u32 lo = ~0u;
  for (u32 l = 0; l < WAVE; l++) lo = MIN(lo, first[l]);
  for (u32 l = 0; l < WAVE; l++) first[l] -= lo;
  NAME(rows_from)(&w->v[in->dst - 256], w->lds + lo, first, n);
  if (two) NAME(rows_from)(&w->v[in->dst - 256 + n / 4], w->lds, second, n);
  return 1;
}
static int NAME(store_lds)(Wave *w, const Insn *in) {
  u32 offset[WAVE];
  if (!NAME(lds_span)(w, in, (u16)in->imm, offset)) return 0;
  NAME(rows_to)(&w->v[in->dst - 256], w->lds, offset, in->a[0]);
  return 1;
}
static void NAME(bpermute)(Wave *w, const Insn *in) {
  u32 t[WAVE];
  const u32 *at = w->v[in->src[0] - 256], *from = w->v[in->src[2] - 256];
  for (u32 l = 0; l < WAVE; l++) t[l] = from[(at[l] + (u32)in->imm) / 4 % WAVE];
  memcpy(w->v[in->dst - 256], t, sizeof t);
}

static int NAME(run)(Machine *m, Wave *w, i64 budget) {
  const int plain_global = !m->traffic, plain_lds = !m->traffic && !w->shadow;
  while (budget-- > 0) {
    u64 idx = (w->pc - m->code_base) >> 2;
    i32 k;
    if (w->pc < m->code_base || idx >= m->code_words || (k = m->pcmap[idx]) < 0) return ST_DECODE;
    const Insn *in = &m->insns[k];
    u64 pc = w->pc;
    u32 handler = in->fast;
    int r = 0;
    w->pc += in->size;
    w->count++;
    if (handler > FAST_FULL_EXEC && (execm(w) != FULL || w->gpridx)) handler = FAST_NONE;
    switch (handler) {
      case FAST_NOP: break;
      case FAST_BRANCH: w->pc += (i64)in->imm * 4; break;
      case FAST_SCC0:
        if (!w->scc) w->pc += (i64)in->imm * 4;
        break;
      case FAST_SCC1:
        if (w->scc) w->pc += (i64)in->imm * 4;
        break;
      case FAST_VCCZ:
        if (!rmask(m, w, in, 106)) w->pc += (i64)in->imm * 4;
        break;
      case FAST_VCCNZ:
        if (rmask(m, w, in, 106)) w->pc += (i64)in->imm * 4;
        break;
      case FAST_EXECZ:
        if (!execm(w)) w->pc += (i64)in->imm * 4;
        break;
      case FAST_EXECNZ:
        if (execm(w)) w->pc += (i64)in->imm * 4;
        break;
      case FAST_DUAL:
        NAME(valu_half)(m, w, in);
        NAME(valu_half)(m, w, &m->insns[in->pair]);
        break;
      case FAST_CNDMASK: NAME(cndmask)(m, w, in); break;
      case FAST_CMP: NAME(compare)(m, w, in); break;
      case FAST_ADD_CO: NAME(add_with_carry)(m, w, in); break;
      case FAST_LSHL64:
      case FAST_LSHL_ADD64: NAME(shift64)(m, w, in); break;
      case FAST_PK_F32: NAME(packed_f32)(m, w, in); break;
      case FAST_LOAD_GLOBAL:
        if (!plain_global || !NAME(load_global)(m, w, in)) r = execute(m, w, in);
        break;
      case FAST_STORE_GLOBAL:
        if (!plain_global || w->shadow || !NAME(store_global)(m, w, in)) r = execute(m, w, in);
        break;
      case FAST_LOAD_LDS:
        if (!plain_lds || !NAME(load_lds)(w, in)) r = execute(m, w, in);
        break;
      case FAST_STORE_LDS:
        if (!plain_lds || !NAME(store_lds)(w, in)) r = execute(m, w, in);
        break;
      case FAST_BPERMUTE: NAME(bpermute)(w, in); break;
#if WAVE == 64
      case FAST_MFMA_4X4X4: mfma_4x4x4(m, w, in); break;
#endif
      case FAST_NONE: r = execute(m, w, in); break;
      default: NAME(valu)(m, w, in, handler);
    }
    if (r < 0) fail(m, E_UNSUPPORTED, 0, 0, 0);
    if (m->err) {
      w->pc = pc;
      w->count--;
      return ST_ERROR;
    }
    if (m->counts) m->counts[k]++;
    if (r > 0) return r - 1;
  }
  return ST_BUDGET;
}
#undef FULL
#undef ALL
#undef SRC_INT
#undef SRC_FLOAT
#undef SRC_DOT
#undef SRC_SUM
#undef THIRD_INT
#undef THIRD_FLOAT
#undef THIRD_DOT
#undef THIRD_SUM
