// Specialised handlers: what hot loops are made of, when every lane is active.
//
// prepare() gives a record its handler if the instruction has none of the rarer modifiers; the run loop uses it while EXEC is full and the
// general handler otherwise. Both must give the same bits; tests/emu compares them. Loops run over a constant number of lanes, so that
// the compiler makes vector code of them: loop.h is included once for wave32 and once for wave64.
#ifndef KGEN_EMU_FAST_H
#define KGEN_EMU_FAST_H
#include "operands.h"

#define F32(e) fb(e)
#define f(x) bf(x)
// X(operation, sources, kind, result): a, b, c are 32-bit lanes of the sources. INT takes no modifiers, FLOAT negates and takes absolutes,
// SUM has the destination's old value as c, DOT takes whole registers of two halves and a plain f32 c.
// clang-format off
#define FAST_VALU(X)                                                                  \
  X(V_MOV_B32, 1, INT, a)                                                             \
  X(V_ACCVGPR_READ, 1, INT, a)                                                        \
  X(V_ACCVGPR_WRITE, 1, INT, a)                                                       \
  X(V_NOT_B32, 1, INT, ~a)                                                            \
  X(V_AND_B32, 2, INT, a & b)                                                         \
  X(V_OR_B32, 2, INT, a | b)                                                          \
  X(V_XOR_B32, 2, INT, a ^ b)                                                         \
  X(V_AND_OR_B32, 3, INT, (a & b) | c)                                                \
  X(V_OR3_B32, 3, INT, a | b | c)                                                     \
  X(V_XOR3_B32, 3, INT, a ^ b ^ c)                                                    \
  X(V_BFI_B32, 3, INT, (a & b) | (~a & c))                                            \
  X(V_BFE_U32, 3, INT, (a >> (b & 31)) & ((1u << (c & 31)) - 1))                      \
  X(V_LSHLREV_B32, 2, INT, b << (a & 31))                                             \
  X(V_LSHRREV_B32, 2, INT, b >> (a & 31))                                             \
  X(V_ASHRREV_I32, 2, INT, (u32)((i32)b >> (a & 31)))                                 \
  X(V_LSHL_ADD_U32, 3, INT, (a << (b & 31)) + c)                                      \
  X(V_ADD_LSHL_U32, 3, INT, (a + b) << (c & 31))                                      \
  X(V_LSHL_OR_B32, 3, INT, (a << (b & 31)) | c)                                       \
  X(V_ADD_NC_U32, 2, INT, a + b)                                                      \
  X(V_ADD_U32, 2, INT, a + b)                                                         \
  X(V_SUB_NC_U32, 2, INT, a - b)                                                      \
  X(V_SUB_U32, 2, INT, a - b)                                                         \
  X(V_SUBREV_NC_U32, 2, INT, b - a)                                                   \
  X(V_SUBREV_U32, 2, INT, b - a)                                                      \
  X(V_ADD3_U32, 3, INT, a + b + c)                                                    \
  X(V_XAD_U32, 3, INT, (a ^ b) + c)                                                   \
  X(V_MUL_LO_U32, 2, INT, a * b)                                                      \
  X(V_MUL_U32_U24, 2, INT, (a & 0xffffff) * (b & 0xffffff))                           \
  X(V_MAD_U32_U24, 3, INT, (a & 0xffffff) * (b & 0xffffff) + c)                       \
  X(V_MIN_U32, 2, INT, MIN(a, b))                                                     \
  X(V_MAX_U32, 2, INT, MAX(a, b))                                                     \
  X(V_MIN_I32, 2, INT, (u32)MIN((i32)a, (i32)b))                                      \
  X(V_MAX_I32, 2, INT, (u32)MAX((i32)a, (i32)b))                                      \
  X(V_ALIGNBIT_B32, 3, INT, (u32)((((u64)a << 32) | b) >> (c & 31)))                  \
  X(V_ADD_F32, 2, FLOAT, F32(f(a) + f(b)))                                            \
  X(V_SUB_F32, 2, FLOAT, F32(f(a) - f(b)))                                            \
  X(V_SUBREV_F32, 2, FLOAT, F32(f(b) - f(a)))                                         \
  X(V_MUL_F32, 2, FLOAT, F32(f(a) * f(b)))                                            \
  X(V_FMA_F32, 3, FLOAT, F32(fmaf(f(a), f(b), f(c))))                                 \
  X(V_FMAC_F32, 2, SUM, F32(fmaf(f(a), f(b), f(c))))                                  \
  X(V_FMAAK_F32, 2, FLOAT, F32(fmaf(f(a), f(b), bf(in->lit))))                        \
  X(V_FMAMK_F32, 2, FLOAT, F32(fmaf(f(a), bf(in->lit), f(b))))                        \
  X(V_DOT2_F32_BF16, 3, DOT, F32((float)((double)bf(a << 16) * bf(b << 16) + (double)bf(a & 0xffff0000u) * bf(b & 0xffff0000u) + f(c)))) \
  X(V_DOT2C_F32_BF16, 2, SUM, F32((float)((double)bf(a << 16) * bf(b << 16) + (double)bf(a & 0xffff0000u) * bf(b & 0xffff0000u) + f(c)))) \
  X(V_DOT2ACC_F32_BF16, 2, SUM, F32((float)((double)bf(a << 16) * bf(b << 16) + (double)bf(a & 0xffff0000u) * bf(b & 0xffff0000u) + f(c)))) \
  X(V_CVT_F32_UBYTE0, 1, INT, F32((float)(a & 255)))                                  \
  X(V_CVT_F32_I32, 1, INT, F32((float)(i32)a))                                        \
  X(V_CVT_F32_U32, 1, INT, F32((float)a))
// clang-format on

#define X(name, n, kind, e) FAST_##name,
enum {
  FAST_NONE,
  FAST_NOP,
  FAST_BRANCH,
  FAST_SCC0,
  FAST_SCC1,
  FAST_VCCZ,
  FAST_VCCNZ,
  FAST_EXECZ,
  FAST_EXECNZ,
  FAST_FULL_EXEC,  // handlers from here on are for a full EXEC
  FAST_DUAL,
  FAST_CNDMASK,
  FAST_CMP,
  FAST_ADD_CO,
  FAST_LSHL64,
  FAST_LSHL_ADD64,
  FAST_PK_F32,
  FAST_LOAD_GLOBAL,
  FAST_STORE_GLOBAL,
  FAST_LOAD_LDS,
  FAST_STORE_LDS,
  FAST_BPERMUTE,
  FAST_MFMA_4X4X4,
  FAST_FIRST_VALU,
  FAST_DOT2_F16,
  FAST_DOT2_F16_SUM,
  FAST_VALU(X) FAST_COUNT
};
#undef X

enum { INT, FLOAT, SUM, DOT };

// Lanes of a source operand; scalars are spread into tmp.
static inline const u32 *spread(Machine *m, Wave *w, const Insn *in, u32 code, u32 *tmp, u32 lanes) {
  if (code >= 256) return w->v[code - 256];
  u32 x = (u32)sread(m, w, in, code, T_u32);
  for (u32 l = 0; l < lanes; l++) tmp[l] = x;
  return tmp;
}
// Source 0 of an instruction with a DPP control that finds every lane a source, or gives zero (see dpp_is_total)
static inline const u32 *spread_dpp(Wave *w, const Insn *in, u32 *tmp, u32 lanes) {
  const u32 *p = w->v[in->src[0] - 256];
  u32 c = in->dpparg, n = c & 15;
  if (c < 0x100)
    for (u32 l = 0; l < lanes; l++) tmp[l] = p[(l & ~3u) + (c >> 2 * (l & 3) & 3)];
  else if (c < 0x110)
    for (u32 l = 0; l < lanes; l++) tmp[l] = (l & 15) + n <= 15 ? p[l + n] : 0;
  else if (c < 0x120)
    for (u32 l = 0; l < lanes; l++) tmp[l] = (l & 15) >= n ? p[l - n] : 0;
  else if (c < 0x130)
    for (u32 l = 0; l < lanes; l++) tmp[l] = p[(l & ~15u) + ((l - n) & 15)];
  else if (c == 0x140)
    for (u32 l = 0; l < lanes; l++) tmp[l] = p[l ^ 15];
  else if (c == 0x141)
    for (u32 l = 0; l < lanes; l++) tmp[l] = p[l ^ 7];
  else if (c < 0x160)
    for (u32 l = 0; l < lanes; l++) tmp[l] = p[(l & ~15u) + n];
  else
    for (u32 l = 0; l < lanes; l++) tmp[l] = p[l ^ n];
  return tmp;
}
static inline int dpp_is_total(const Insn *in) {
  u32 c = in->dpparg, kind = c & 0x1f0, n = c & 15;
  if (in->dpp != 1 || in->row_mask != 15 || in->bank_mask != 15 || in->src[0] < 256) return 0;
  if (c < 0x100 || c == 0x140 || c == 0x141 || kind == 0x120 || kind == 0x150 || kind == 0x160) return 1;
  return (kind == 0x100 || kind == 0x110) && n && in->bc;
}
static inline const u32 *spread_source(Machine *m, Wave *w, const Insn *in, int k, u32 *tmp, u32 lanes) {
  return k == 0 && in->dpp ? spread_dpp(w, in, tmp, lanes) : spread(m, w, in, in->src[k], tmp, lanes);
}
static inline const u32 *spread_float(Machine *m, Wave *w, const Insn *in, int k, u32 *tmp, u32 lanes) {
  const u32 *p = spread_source(m, w, in, k, tmp, lanes);
  u32 keep = in->abs >> k & 1 ? 0x7fffffffu : ~0u, flip = in->neg >> k & 1 ? 0x80000000u : 0;
  if (keep == ~0u && !flip) return p;
  for (u32 l = 0; l < lanes; l++) tmp[l] = (p[l] & keep) ^ flip;
  return tmp;
}
// The same for the two registers of a 64-bit operand
static inline void spread64(Machine *m, Wave *w, const Insn *in, u32 code, u64 *out, u32 lanes) {
  if (code >= 256) {
    const u32 *lo = w->v[code - 256], *hi = w->v[code - 255];
    for (u32 l = 0; l < lanes; l++) out[l] = lo[l] | (u64)hi[l] << 32;
    return;
  }
  u64 x = sread(m, w, in, code, T_u64);
  for (u32 l = 0; l < lanes; l++) out[l] = x;
}

// Low and high halves of registers as floats
#if defined(__F16C__) && defined(__AVX2__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HALVES_BY_HARDWARE
#if defined(__clang__)
typedef _Float16 f16x8 __attribute__((vector_size(16)));
#define FLOATS(x) __builtin_convertvector((f16x8)(x), f32x8)
#else
#define FLOATS(x) __builtin_ia32_vcvtph2ps256(x)
#endif
#endif
#endif
static inline void halves(const u32 *p, float *lo, float *hi, u32 lanes) {
#if defined(HALVES_BY_HARDWARE)
  typedef short s16x8 __attribute__((vector_size(16)));
  typedef short s16x16 __attribute__((vector_size(32)));
  typedef float f32x8 __attribute__((vector_size(32)));
  for (u32 l = 0; l < lanes; l += 8) {  // converts quietly and exactly, whatever MXCSR says about denormals
    s16x16 x;
    memcpy(&x, p + l, 32);
    s16x8 even = __builtin_shufflevector(x, x, 0, 2, 4, 6, 8, 10, 12, 14), odd = __builtin_shufflevector(x, x, 1, 3, 5, 7, 9, 11, 13, 15);
    f32x8 a = FLOATS(even), b = FLOATS(odd);
    memcpy(lo + l, &a, 32);
    memcpy(hi + l, &b, 32);
  }
#else
  for (u32 l = 0; l < lanes; l++) {
    lo[l] = h2f((u16)p[l]);
    hi[l] = h2f((u16)(p[l] >> 16));
  }
#endif
}

#endif
