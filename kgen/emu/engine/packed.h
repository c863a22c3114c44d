// Operands of packed (VOP3P) instructions: two halves, or two f32, or f32 and halves mixed.
#ifndef KGEN_EMU_PACKED_H
#define KGEN_EMU_PACKED_H
#include "arithmetic.h"

static u32 pkraw(Machine *m, Wave *w, const Insn *in, u32 c, int t, u32 l) {
  if (c >= 256) return w->v[c - 256][l];
  if (c >= 240 && c <= 248) return (u32)sread(m, w, in, c, t == T_f16 || t == T_bf16 ? t : T_u32);
  return (u32)sread(m, w, in, c, T_u32);
}
static void pkfetch(Machine *m, Wave *w, const Insn *in, int k, int t, u64 *o) {  // op_sel applied: low | high << 16
  if (k == 0 && in->dpp) {
    Insn q = *in;
    q.neg = q.abs = 0;
    fetch(m, w, &q, 0, T_u32, o);
  } else LANES o[l] = pkraw(m, w, in, in->src[k], t, l);
  int lo = in->opsel >> k & 1, hi = in->opselhi >> k & 1;
  int fl = t == T_f16 || t == T_bf16;
  LANES {
    u32 v = (u32)o[l], a = v >> (lo ? 16 : 0) & 0xffff, b = v >> (hi ? 16 : 0) & 0xffff;
    if (fl && in->neg >> k & 1) a ^= 0x8000;
    if (fl && in->neghi >> k & 1) b ^= 0x8000;
    o[l] = a | b << 16;
  }
}
#define PK2(T, e)                                                       \
  {                                                                     \
    pkfetch(m, w, in, 0, T_##T, s0);                                    \
    pkfetch(m, w, in, 1, T_##T, s1);                                    \
    LANES {                                                             \
      u32 r = 0;                                                        \
      for (int h = 0; h < 2; h++) {                                     \
        C_##T a = G_##T(s0[l] >> 16 * h), b = G_##T(s1[l] >> 16 * h);   \
        C_##T q = (C_##T)(e);                                           \
        if (T_##T == T_f16 && in->clamp) q = (C_##T)clamp01((double)q); \
        r |= (u32)(P_##T(q) & 0xffff) << 16 * h;                        \
      }                                                                 \
      d[l] = r;                                                         \
    }                                                                   \
    putpk(w, in, d);                                                    \
  }                                                                     \
  break
#define PK3(T, e)                                                                                 \
  {                                                                                               \
    pkfetch(m, w, in, 0, T_##T, s0);                                                              \
    pkfetch(m, w, in, 1, T_##T, s1);                                                              \
    pkfetch(m, w, in, 2, T_##T, s2);                                                              \
    LANES {                                                                                       \
      u32 r = 0;                                                                                  \
      for (int h = 0; h < 2; h++) {                                                               \
        C_##T a = G_##T(s0[l] >> 16 * h), b = G_##T(s1[l] >> 16 * h), c = G_##T(s2[l] >> 16 * h); \
        C_##T q = (C_##T)(e);                                                                     \
        if (T_##T == T_f16 && in->clamp) q = (C_##T)clamp01((double)q);                           \
        r |= (u32)(P_##T(q) & 0xffff) << 16 * h;                                                  \
      }                                                                                           \
      d[l] = r;                                                                                   \
    }                                                                                             \
    putpk(w, in, d);                                                                              \
  }                                                                                               \
  break
static void putpk(Wave *w, const Insn *in, u64 *d) {
  u32 *r = w->v[in->dst - 256];
  LANES if (w->wmask >> l & 1) r[l] = (u32)d[l];
}

// 2 x f32 operand of the CDNA packed f32 instructions
static void pk32(Machine *m, Wave *w, const Insn *in, int k, u64 *o) {
  u32 c = in->src[k];
  LANES {
    u32 h[2];
    if (c >= 256) {
      h[0] = w->v[c - 256][l];
      h[1] = w->v[c - 255][l];
    } else if (c < 128) {
      h[0] = w->s[c];
      h[1] = w->s[c + 1];
    } else h[0] = h[1] = (u32)sread(m, w, in, c, T_f32);
    u32 a = h[in->opsel >> k & 1], b = h[in->opselhi >> k & 1];
    if (in->neg >> k & 1) a ^= 0x80000000u;
    if (in->neghi >> k & 1) b ^= 0x80000000u;
    o[l] = a | (u64)b << 32;
  }
}
static float mixsrc(Machine *m, Wave *w, const Insn *in, int k, u32 l) {  // FMA_MIX: f32, or a half of the register
  u32 c = in->src[k];
  float f;
  if (!(in->opselhi >> k & 1)) f = bf(c >= 256 ? w->v[c - 256][l] : (u32)sread(m, w, in, c, T_f32));
  else f = h2f((u16)(pkraw(m, w, in, c, T_f16, l) >> ((in->opsel >> k & 1) ? 16 : 0)));
  if (in->neghi >> k & 1) f = fabsf(f);
  if (in->neg >> k & 1) f = -f;
  return f;
}

static inline u64 carry_in(Machine *m, Wave *w, const Insn *in) { return rmask(m, w, in, in->src[2]); }

#endif
