// Matrix instructions: MFMA (CDNA) and WMMA (RDNA). Products and sums in double, in ascending K, rounded once at the end.
#include "arithmetic.h"

// element formats, a[] parameters of matrix instructions
enum { M_F32, M_F16, M_BF16, M_FP8, M_BF8, M_I8, M_U8, M_I4, M_U4, M_FP6, M_BF6, M_FP4, M_I32 };
static int mbits(int f) {
  return f == M_F32 || f == M_I32 ? 32 : f == M_F16 || f == M_BF16 ? 16 : f <= M_U8 ? 8 : f == M_FP6 || f == M_BF6 ? 6 : 4;
}
static double melem(Machine *m, Wave *w, const Insn *in, u32 code, u32 lane, u32 e, int f) {
  u32 b = (u32)mbits(f), bit = e * b, r = bit / 32, sh = bit % 32, x;
  if (code >= 256) {
    u64 q = w->v[code - 256 + r][lane];
    if (sh + b > 32) q |= (u64)w->v[code - 255 + r][lane] << 32;
    x = (u32)(q >> sh);
  } else x = (u32)sread(m, w, in, code, f == M_F16 ? T_f16 : f == M_BF16 ? T_bf16 : T_u32) >> (b >= 16 ? 0 : sh);
  switch (f) {
    case M_F32: return bf(x);
    case M_F16: return h2f((u16)x);
    case M_BF16: return b2f((u16)x);
    case M_FP8: return fp8f(m, (u8)x, 0);
    case M_BF8: return fp8f(m, (u8)x, 1);
    case M_I8: return (i8)x;
    case M_U8: return (u8)x;
    case M_I4: return sx4(x & 15, 1);
    case M_U4: return x & 15;
    case M_FP6: return mini2d(x & 63, 2, 3, 1, 0);
    case M_BF6: return mini2d(x & 63, 3, 2, 3, 0);
    case M_FP4: return mini2d(x & 15, 2, 1, 1, 0);
    case M_I32: return (i32)x;
  }
  return 0;
}
static double mcval(Machine *m, Wave *w, const Insn *in, u32 code, u32 lane, u32 reg, int isint) {
  u32 x = code >= 256 ? w->v[code - 256 + reg][lane] : (u32)sread(m, w, in, code, T_u32);
  return isint ? (double)(i32)x : (double)bf(x);
}
// The elements that each lane holds of one operand: out[l * per + e]
static void unpack(Machine *m, Wave *w, const Insn *in, u32 code, u32 per, int f, u32 lanes, double *out) {
  if (code >= 256 && (f == M_F16 || f == M_BF16)) {
    for (u32 r = 0; r < per / 2; r++) {
      const u32 *row = w->v[code - 256 + r];
      if (f == M_F16)
        for (u32 l = 0; l < lanes; l++) {
          out[l * per + 2 * r] = h2f((u16)row[l]);
          out[l * per + 2 * r + 1] = h2f((u16)(row[l] >> 16));
        }
      else
        for (u32 l = 0; l < lanes; l++) {
          out[l * per + 2 * r] = b2f((u16)row[l]);
          out[l * per + 2 * r + 1] = b2f((u16)(row[l] >> 16));
        }
    }
    return;
  }
  if (code >= 256 && (f == M_FP8 || f == M_BF8)) {
    for (u32 e = 0; e < per; e++) {
      const u32 *row = w->v[code - 256 + e / 4], shift = 8 * (e % 4);
      for (u32 l = 0; l < lanes; l++) out[l * per + e] = fp8f(m, (u8)(row[l] >> shift), f == M_BF8);
    }
    return;
  }
  for (u32 l = 0; l < lanes; l++)
    for (u32 e = 0; e < per; e++) out[l * per + e] = melem(m, w, in, code, l, e, f);
}
// c[i][j] = sum over k of a[i][k] * b[k][j]; one call per size, so that the inner loop has a constant length
#define PRODUCT(M)                                                                           \
  static void product##M(u32 rows, u32 depth, const double *a, const double *b, double *c) { \
    for (u32 i = 0; i < rows; i++) {                                                         \
      double sum[M] = {0};                                                                   \
      for (u32 k = 0; k < depth; k++) {                                                      \
        double x = a[i * depth + k];                                                         \
        for (u32 j = 0; j < M; j++) sum[j] += x * b[k * M + j];                              \
      }                                                                                      \
      for (u32 j = 0; j < M; j++) c[i * M + j] = sum[j];                                     \
    }                                                                                        \
  }
PRODUCT(4)
PRODUCT(16)
PRODUCT(32)

#define MFMA_ELEMENTS 2048  // of the largest operands: 16x16x128, 32x32x64
// MFMA.  a = {M, N, K, blocks, fmtA, fmtB, int result, scaled}; scales: src codes in sdst (A) and dpparg (B), byte selects row_mask/bank_mask
void mfma(Machine *m, Wave *w, const Insn *in) {
  u32 M = in->a[0], K = in->a[2], blocks = in->a[3], isint = in->a[6];
  u32 groups = 64 / M, per = K / (groups / blocks);  // K elements held by one lane
  double lane_a[MFMA_ELEMENTS], lane_b[MFMA_ELEMENTS], A[MFMA_ELEMENTS], B[MFMA_ELEMENTS], C[2048], D[32][64];
  if (64 * per > MFMA_ELEMENTS || M != in->a[1] || (M != 4 && M != 16 && M != 32)) {
    fail(m, E_MODIFIER, 0, M, K);
    return;
  }
  unpack(m, w, in, in->src[0], per, in->a[4], 64, lane_a);
  unpack(m, w, in, in->src[1], per, in->a[5], 64, lane_b);
  for (u32 l = 0; l < 64; l++) {  // A as [block][i][k], B as [block][k][j]
    u32 i = l % M, g = l / M, blk = blocks > 1 ? g : 0, k0 = blocks > 1 ? 0 : g * per;
    double sa = 1, sb = 1;
    if (in->a[7]) {  // E8M0 scales, one per lane: row i, this lane's K elements
      u32 ca = in->sdst, cb = (u16)in->dpparg;
      u32 ra = ca >= 256 ? w->v[ca - 256][l] : (u32)sread(m, w, in, ca, T_u32),
          rb = cb >= 256 ? w->v[cb - 256][l] : (u32)sread(m, w, in, cb, T_u32);
      sa = ldexp(1, (int)(ra >> 8 * in->row_mask & 255) - 127);
      sb = ldexp(1, (int)(rb >> 8 * in->bank_mask & 255) - 127);
    }
    for (u32 e = 0; e < per; e++) {
      A[(blk * M + i) * K + k0 + e] = sa * lane_a[l * per + e];
      B[(blk * K + k0 + e) * M + i] = sb * lane_b[l * per + e];
    }
  }
  for (u32 blk = 0; blk < blocks; blk++) {
    const double *a = A + blk * M * K, *b = B + blk * M * K;
    if (M == 4) product4(M, K, a, b, C + blk * M * M);
    else if (M == 16) product16(M, K, a, b, C + blk * M * M);
    else product32(M, K, a, b, C + blk * M * M);
  }
  u32 regs = M * M * blocks / 64;
  for (u32 r = 0; r < regs; r++)
    for (u32 l = 0; l < 64; l++) {
      u32 row, col, blk;
      if (M == 4) {
        blk = l / 4;
        row = r;
        col = l % 4;
      } else if (M == 16) {
        blk = r / 4;
        row = 4 * (l / 16) + r % 4;
        col = l % 16;
      } else {
        blk = r / 16;
        row = 8 * (r % 16 / 4) + 4 * (l / 32) + r % 4;
        col = l % 32;
      }
      D[r][l] = C[(blk * M + row) * M + col] + mcval(m, w, in, in->src[2], l, r, (int)isint);
    }
  for (u32 r = 0; r < regs; r++)
    for (u32 l = 0; l < 64; l++) w->v[in->dst - 256 + r][l] = isint ? (u32)(i64)D[r][l] : fb((float)D[r][l]);  // EXEC is ignored
}
// RDNA3 wants lanes 16-31 of A and B to repeat lanes 0-15; a kernel that relies on it and does not do it is wrong on the GPU.
static int wmma_halves_differ(Machine *m, Wave *w, const Insn *in, u32 operand, u32 registers) {
  u32 code = in->src[operand];
  for (u32 i = 0; i < 16 && code >= 256; i++)
    for (u32 r = 0; r < registers; r++)
      if (w->v[code - 256 + r][i] != w->v[code - 256 + r][i + 16]) {
        fail(m, E_WMMA_DUP, i, operand, 0);
        return 1;
      }
  return 0;
}
// WMMA (wave32).  a = {fmtA, fmtB, fmtC (M_F32, M_F16, M_BF16, M_I32), K}
void wmma(Machine *m, Wave *w, const Insn *in) {
  double lane_a[32 * 32], lane_b[32 * 32], A[16 * 32], B[32 * 16], C[16 * 16], D[8][32];
  u32 fa = in->a[0], fbm = in->a[1], fc = in->a[2], K = in->a[3], old = m->arch == RDNA3;
  u32 per = old ? K : K / 2, lanes = old ? 16 : 32;  // K elements held by one lane
  if (old &&
      (wmma_halves_differ(m, w, in, 0, K * (u32)mbits((int)fa) / 32) || wmma_halves_differ(m, w, in, 1, K * (u32)mbits((int)fbm) / 32)))
    return;
  unpack(m, w, in, in->src[0], per, (int)fa, lanes, lane_a);
  unpack(m, w, in, in->src[1], per, (int)fbm, lanes, lane_b);
  for (u32 l = 0; l < lanes; l++)
    for (u32 e = 0; e < per; e++) {
      A[l % 16 * K + l / 16 * per + e] = lane_a[l * per + e];
      B[(l / 16 * per + e) * 16 + l % 16] = lane_b[l * per + e];
    }
  product16(16, K, A, B, C);
  int half = fc == M_F16 || fc == M_BF16;
  for (u32 r = 0; r < 8; r++)
    for (u32 l = 0; l < 32; l++) {
      u32 row = old ? 2 * r + l / 16 : 8 * (l / 16) + r;
      double c;
      if (half) c = melem(m, w, in, in->src[2], l, old ? 2 * r + (in->opsel >> 2 & 1) : r, (int)fc);
      else c = mcval(m, w, in, in->src[2], l, r, fc == M_I32);
      D[r][l] = C[row * 16 + l % 16] + c;
    }
  for (u32 r = 0; r < 8; r++)
    for (u32 l = 0; l < 32; l++) {
      u32 *R = w->v[in->dst - 256];
      if (!half) {
        R[r * 64 + l] = fc == M_F32 ? fb((float)D[r][l]) : in->clamp ? sat_i32((i64)D[r][l]) : (u32)(i64)D[r][l];
        continue;
      }
      u32 hv = fc == M_F16 ? d2h(D[r][l]) : f2b((float)D[r][l]);
      u32 reg = m->arch == RDNA3 ? r : r / 2, hi = m->arch == RDNA3 ? in->opsel >> 2 & 1 : r & 1;
      u32 *p = &R[reg * 64 + l];
      *p = hi ? (*p & 0xffff) | hv << 16 : (*p & 0xffff0000u) | hv;
    }
}
