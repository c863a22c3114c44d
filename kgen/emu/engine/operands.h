// Operands: scalar registers and constants, vector sources with their modifiers, masked results.
#ifndef KGEN_EMU_OPERANDS_H
#define KGEN_EMU_OPERANDS_H
#include "formats.h"
#include "memory.h"

static const double FCONST[9] = {0.5, -0.5, 1, -1, 2, -2, 4, -4, 0.15915494309189532};
enum { T_u16, T_i16, T_f16, T_u32, T_i32, T_f32, T_u64, T_i64, T_f64, T_bf16 };
static inline int tbits(int t) { return t <= T_f16 || t == T_bf16 ? 16 : t <= T_f32 ? 32 : 64; }
static inline int tflt(int t) { return t == T_f16 || t == T_f32 || t == T_f64 || t == T_bf16; }

// scalar operand (code < 256) read as type t
static u64 sread(Machine *m, Wave *w, const Insn *in, u32 c, int t) {
  int b = tbits(t);
  if (c < 128) {
    if (c == 124 && m->arch != CDNA) return 0;  // NULL
    u64 v = w->s[c];
    if (b == 64 && c != 127) v |= (u64)w->s[c + 1] << 32;
    return b == 16 ? v & 0xffff : v;
  }
  if (c <= 208) {
    i64 v = c <= 192 ? (i64)c - 128 : 192 - (i64)c;
    return b == 64 ? (u64)v : b == 32 ? (u32)v : (u16)v;
  }
  if (c >= 240 && c <= 248) {
    double f = FCONST[c - 240];
    if (t == T_bf16) return f2b((float)f);
    if (b == 16) return c == 248 ? 0x3118 : d2h(f);
    return b == 32 ? fb((float)f) : db(f);
  }
  switch (c) {
    case 235: return b == 64 ? (u64)APERTURE_SHARED << 32 : APERTURE_SHARED;
    case 237: return b == 64 ? (u64)APERTURE_PRIVATE << 32 : APERTURE_PRIVATE;
    case 236:
    case 238: return b == 64 ? (u64)((c == 236 ? APERTURE_SHARED : APERTURE_PRIVATE)) << 32 | 0xffffffffu : 0xffffffffu;
    case 251: return W == 64 ? !(w->s[106] | w->s[107]) : !w->s[106];
    case 252: return !execm(w);
    case 253: return w->scc;
    case 255: return t == T_f64 ? (u64)in->lit << 32 : t == T_i64 ? (u64)(i64)(i32)in->lit : b == 16 ? in->lit & 0xffff : in->lit;
  }
  fail(m, E_UNSUPPORTED, 0, c, 0);
  return 0;
}
static inline u32 sr32(Machine *m, Wave *w, const Insn *in, int k) { return (u32)sread(m, w, in, in->src[k], T_u32); }
static void sw32(Machine *m, Wave *w, u32 c, u32 v) {
  if (!(c == 124 && m->arch != CDNA)) w->s[c & 127] = v;
}
static void sw64(Machine *m, Wave *w, u32 c, u64 v) {
  if (c == 124 && m->arch != CDNA) return;
  w->s[c & 127] = (u32)v;
  w->s[(c + 1) & 127] = (u32)(v >> 32);
}
static u64 rmask(Machine *m, Wave *w, const Insn *in, u32 c) { return W == 64 ? sread(m, w, in, c, T_u64) : sread(m, w, in, c, T_u32); }
static void wmask(Machine *m, Wave *w, u32 c, u64 v) {
  if (W == 64) sw64(m, w, c, v);
  else sw32(m, w, c, (u32)v);
}

// source lane of a DPP16 control for lane l, or -1
static int dpp16(u32 c, int l, int ws) {
  int row = l & ~15, i = l & 15, n = c & 15;
  if (c < 0x100) return (l & ~3) + ((c >> 2 * (l & 3)) & 3);
  switch (c & 0x1f0) {
    case 0x100: return n && i + n <= 15 ? l + n : -1;  // row_shl
    case 0x110: return n && i - n >= 0 ? l - n : -1;   // row_shr
    case 0x120: return row + ((i - n) & 15);           // row_ror
    case 0x150: return row + n;                        // row_share (RDNA), row_newbcast (CDNA)
    case 0x160: return row + (i ^ n);                  // row_xmask
  }
  switch (c) {
    case 0x130: return l + 1 < ws ? l + 1 : -1;       // wave_shl:1
    case 0x134: return (l + 1) % ws;                  // wave_rol:1
    case 0x138: return l - 1 >= 0 ? l - 1 : -1;       // wave_shr:1
    case 0x13c: return (l + ws - 1) % ws;             // wave_ror:1
    case 0x140: return row + 15 - i;                  // row_mirror
    case 0x141: return (l & ~7) + 7 - (l & 7);        // row_half_mirror
    case 0x142: return l >= 16 ? (l & ~15) - 1 : -1;  // row_bcast:15
    case 0x143: return l >= 32 ? 31 : -1;             // row_bcast:31
  }
  return -2;
}

static u32 sdwa_sel(u32 v, int sel, int sext) {
  if (sel == 6) return v;
  int sh = sel < 4 ? sel * 8 : (sel - 4) * 16;
  v >>= sh;
  if (sel < 4) return sext ? (u32)(i32)(i8)v : v & 0xff;
  return sext ? (u32)(i32)(i16)v : v & 0xffff;
}

// read source operand k of a vector instruction for all lanes as type t, modifiers applied
static void fetch(Machine *m, Wave *w, const Insn *in, int k, int t, u64 *o) {
  u32 c = in->src[k];
  int b = tbits(t);
  if (c >= 256) {
    const u32 *r = w->v[c - 256];
    if (b == 64) {
      const u32 *h = w->v[c - 255];
      LANES o[l] = r[l] | (u64)h[l] << 32;
    } else if (b == 32 || in->sdwa) LANES o[l] = r[l];
    else {
      int sh = (in->opsel >> k & 1) * 16;
      LANES o[l] = r[l] >> sh & 0xffff;
    }
  } else {
    u64 v;
    if (b == 16 && (c < 128 || c == 255) && (in->opsel >> k & 1)) v = (u32)sread(m, w, in, c, T_u32) >> 16;
    else if (in->sdwa && b == 16) v = sread(m, w, in, c, T_u32);
    else v = sread(m, w, in, c, t);
    LANES o[l] = v;
  }
  if (k == 0 && in->dpp) {
    u64 tmp[64], ex = execm(w);
    memcpy(tmp, o, sizeof tmp);
    LANES {
      int s = in->dpp == 2 ? (int)((l & ~7u) + (in->dpparg >> 3 * (l & 7) & 7)) : dpp16(in->dpparg, (int)l, (int)W);
      if (s == -2) {
        fail(m, E_MODIFIER, l, in->dpparg, 0);
        return;
      }
      int en = in->dpp == 2 || ((in->row_mask >> (l >> 4) & 1) && (in->bank_mask >> (l >> 2 & 3) & 1));
      if (!en) {
        w->wmask &= ~(1ull << l);
        continue;
      }
      if (s >= 0 && !in->fi && !(ex >> s & 1)) s = in->dpp == 2 ? -3 : -1;  // inactive source lane
      if (s >= 0) o[l] = tmp[s];
      else if (in->bc || s == -3) o[l] = 0;
      else w->wmask &= ~(1ull << l);
    }
  }
  if (in->sdwa && k < 2) {
    int sel = k ? in->sel1 : in->sel0, sx = in->sext >> k & 1;
    LANES o[l] = sdwa_sel((u32)o[l], sel, sx);
    if (b == 16) LANES o[l] &= 0xffff;
  }
  if (tflt(t)) {
    u64 sb = 1ull << (b - 1);
    if (in->abs >> k & 1) LANES o[l] &= ~sb;
    if (in->neg >> k & 1) LANES o[l] ^= sb;
  }
}

static double omod(const Insn *in, double x) { return in->omod == 1 ? x * 2 : in->omod == 2 ? x * 4 : in->omod == 3 ? x / 2 : x; }
static double clamp01(double x) { return x != x ? 0 : x < 0 ? 0 : x > 1 ? 1 : x; }

// write a vector result of type t for the lanes in w->wmask
static void put(Machine *m, Wave *w, const Insn *in, int t, u64 *d) {
  u64 ex = w->wmask;
  u32 *r = w->v[in->dst - 256];
  int b = tbits(t);
  if (tflt(t) && (in->omod || in->clamp)) {
    LANES {
      double x = t == T_f32 ? bf((u32)d[l]) : t == T_f64 ? bd(d[l]) : t == T_f16 ? h2f((u16)d[l]) : b2f((u16)d[l]);
      x = omod(in, x);
      if (in->clamp) x = clamp01(x);
      d[l] = t == T_f32 ? fb((float)x) : t == T_f64 ? db(x) : t == T_f16 ? d2h(x) : f2b((float)x);
    }
  } else if (in->clamp && !(in->flags & 1)) {
    fail(m, E_MODIFIER, 0, 0, 1);
    return;
  }
  if (in->sdwa && in->dsel != 6) {
    int sh = in->dsel < 4 ? in->dsel * 8 : (in->dsel - 4) * 16;
    u32 mask = in->dsel < 4 ? 0xff : 0xffff;
    LANES if (ex >> l & 1) {
      u32 v = ((u32)d[l] & mask) << sh;
      if (in->dun == 2) v |= r[l] & ~(mask << sh);
      else if (in->dun == 1) v = (u32)((i32)((u32)d[l] << (in->dsel < 4 ? 24 : 16)) >> (in->dsel < 4 ? 24 : 16)) << sh;
      r[l] = v;
    }
    return;
  }
  if (b == 64) {
    u32 *h = w->v[in->dst - 255];
    LANES if (ex >> l & 1) {
      r[l] = (u32)d[l];
      h[l] = (u32)(d[l] >> 32);
    }
  } else if (b == 32) {
    LANES if (ex >> l & 1) r[l] = (u32)d[l];
  } else if (in->opsel & 8) {
    LANES if (ex >> l & 1) r[l] = (r[l] & 0xffff) | (u32)(u16)d[l] << 16;
  } else if (in->keep16) {
    LANES if (ex >> l & 1) r[l] = (r[l] & 0xffff0000u) | (u16)d[l];
  } else {
    LANES if (ex >> l & 1) r[l] = (u16)d[l];
  }
}

typedef u16 C_u16;
typedef i16 C_i16;
typedef double C_f16;
typedef u32 C_u32;
typedef i32 C_i32;
typedef float C_f32;
typedef u64 C_u64;
typedef i64 C_i64;
typedef double C_f64;
typedef float C_bf16;
#define G_u16(x) ((u16)(x))
#define G_i16(x) ((i16)(x))
#define G_f16(x) ((double)h2f((u16)(x)))
#define G_u32(x) ((u32)(x))
#define G_i32(x) ((i32)(x))
#define G_f32(x) bf((u32)(x))
#define G_u64(x) ((u64)(x))
#define G_i64(x) ((i64)(x))
#define G_f64(x) bd(x)
#define G_bf16(x) b2f((u16)(x))
#define P_u16(x) ((u64)(u16)(x))
#define P_i16(x) ((u64)(u16)(x))
#define P_f16(x) ((u64)d2h(x))
#define P_u32(x) ((u64)(u32)(x))
#define P_i32(x) ((u64)(u32)(x))
#define P_f32(x) ((u64)fb(x))
#define P_u64(x) ((u64)(x))
#define P_i64(x) ((u64)(x))
#define P_f64(x) db(x)
#define P_bf16(x) ((u64)f2b(x))

#define F(k, T) fetch(m, w, in, k, T_##T, s##k)
#define OP1(D, A, e)          \
  {                           \
    F(0, A);                  \
    LANES {                   \
      C_##A a = G_##A(s0[l]); \
      (void)a;                \
      d[l] = P_##D(e);        \
    }                         \
    put(m, w, in, T_##D, d);  \
  }                           \
  break
#define OP2(D, A, B, e)       \
  {                           \
    F(0, A);                  \
    F(1, B);                  \
    LANES {                   \
      C_##A a = G_##A(s0[l]); \
      C_##B b = G_##B(s1[l]); \
      d[l] = P_##D(e);        \
    }                         \
    put(m, w, in, T_##D, d);  \
  }                           \
  break
#define OP3(D, A, B, C, e)    \
  {                           \
    F(0, A);                  \
    F(1, B);                  \
    F(2, C);                  \
    LANES {                   \
      C_##A a = G_##A(s0[l]); \
      C_##B b = G_##B(s1[l]); \
      C_##C c = G_##C(s2[l]); \
      d[l] = P_##D(e);        \
    }                         \
    put(m, w, in, T_##D, d);  \
  }                           \
  break
// the destination's old value as third source
#define OLD(T)                                            \
  {                                                       \
    Insn q = *in;                                         \
    q.src[2] = in->dst;                                   \
    q.opsel = (in->opsel & ~4) | (in->opsel & 8 ? 4 : 0); \
    q.neg = q.abs = 0;                                    \
    fetch(m, w, &q, 2, T_##T, s2);                        \
  }
#define OPA(D, A, B, e)       \
  {                           \
    F(0, A);                  \
    F(1, B);                  \
    OLD(D);                   \
    LANES {                   \
      C_##A a = G_##A(s0[l]); \
      C_##B b = G_##B(s1[l]); \
      C_##D c = G_##D(s2[l]); \
      d[l] = P_##D(e);        \
    }                         \
    put(m, w, in, T_##D, d);  \
  }                           \
  break

#endif
