// Matrix instructions: MFMA (CDNA) and WMMA (RDNA).
#include "arithmetic.h"

// element formats, a[] parameters of matrix instructions
enum { M_F32, M_F16, M_BF16, M_FP8, M_BF8, M_I8, M_U8, M_I4, M_U4, M_FP6, M_BF6, M_FP4, M_I32 };
static int mbits(int f) { return f == M_F32 || f == M_I32 ? 32 : f == M_F16 || f == M_BF16 ? 16 : f <= M_U8 ? 8 : f == M_FP6 || f == M_BF6 ? 6 : 4; }
static double melem(Machine *m, Wave *w, const Insn *in, u32 code, u32 lane, u32 e, int f) {
  u32 b = (u32)mbits(f), bit = e * b, r = bit / 32, sh = bit % 32, x;
  if (code >= 256) {
    u64 q = w->v[code - 256 + r][lane];
    if (sh + b > 32) q |= (u64)w->v[code - 255 + r][lane] << 32;
    x = (u32)(q >> sh);
  } else x = (u32)sread(m, w, in, code, f == M_F16 ? T_f16 : f == M_BF16 ? T_bf16 : T_u32) >> (b >= 16 ? 0 : sh);
  switch (f) {
    case M_F32: return bf(x); case M_F16: return h2f((u16)x); case M_BF16: return b2f((u16)x);
    case M_FP8: return fp8f(m, (u8)x, 0); case M_BF8: return fp8f(m, (u8)x, 1);
    case M_I8: return (i8)x; case M_U8: return (u8)x; case M_I4: return sx4(x & 15, 1); case M_U4: return x & 15;
    case M_FP6: return mini2d(x & 63, 2, 3, 1, 0); case M_BF6: return mini2d(x & 63, 3, 2, 3, 0);
    case M_FP4: return mini2d(x & 15, 2, 1, 1, 0); case M_I32: return (i32)x;
  }
  return 0;
}
static double mcval(Machine *m, Wave *w, const Insn *in, u32 code, u32 lane, u32 reg, int isint) {
  u32 x = code >= 256 ? w->v[code - 256 + reg][lane] : (u32)sread(m, w, in, code, T_u32);
  return isint ? (double)(i32)x : (double)bf(x);
}
// MFMA.  a = {M, N, K, blocks, fmtA, fmtB, int result, scaled}; scales: src codes in sdst (A) and dpparg (B), byte selects row_mask/bank_mask
static void mfma(Machine *m, Wave *w, const Insn *in) {
  u32 M = in->a[0], N = in->a[1], K = in->a[2], B = in->a[3], fa = in->a[4], fbm = in->a[5], isint = in->a[6];
  u32 groups = 64 / M, split = groups / B, per = K / split;            // K elements held by one lane
  double A[4096], Bm[4096], D[32][64];  // the largest shapes hold 2048 elements
  // [block][i][k]
  for (u32 l = 0; l < 64; l++) {
    u32 i = l % M, g = l / M, blk = B > 1 ? g : 0, k0 = B > 1 ? 0 : g * per;
    double sa = 1, sb = 1;
    if (in->a[7]) {                                     // E8M0 scales, one per lane: row i, this lane's K elements
      u32 ca = in->sdst, cb = (u16)in->dpparg;
      u32 ra = ca >= 256 ? w->v[ca - 256][l] : (u32)sread(m, w, in, ca, T_u32), rb = cb >= 256 ? w->v[cb - 256][l] : (u32)sread(m, w, in, cb, T_u32);
      sa = ldexp(1, (int)(ra >> 8 * in->row_mask & 255) - 127); sb = ldexp(1, (int)(rb >> 8 * in->bank_mask & 255) - 127);
    }
    for (u32 e = 0; e < per; e++) {
      A[(blk * M + i) * K + k0 + e] = sa * melem(m, w, in, in->src[0], l, e, (int)fa);
      Bm[(blk * N + i) * K + k0 + e] = sb * melem(m, w, in, in->src[1], l, e, (int)fbm);
    }
  }
  u32 regs = M * N * B / 64;
  for (u32 r = 0; r < regs; r++)
    for (u32 l = 0; l < 64; l++) {
      u32 row, col, blk;
      if (M == 4) { blk = l / 4; row = r; col = l % 4; }
      else if (M == 16) { blk = r / 4; row = 4 * (l / 16) + r % 4; col = l % 16; }
      else { blk = r / 16; row = 8 * (r % 16 / 4) + 4 * (l / 32) + r % 4; col = l % 32; }
      double acc = 0;
      for (u32 k = 0; k < K; k++) acc += A[(blk * M + row) * K + k] * Bm[(blk * N + col) * K + k];
      D[r][l] = acc + mcval(m, w, in, in->src[2], l, r, (int)isint);
    }
  for (u32 r = 0; r < regs; r++)
    for (u32 l = 0; l < 64; l++)
      w->v[in->dst - 256 + r][l] = isint ? (u32)(i64)D[r][l] : fb((float)D[r][l]);   // EXEC is ignored
}
// WMMA (wave32).  a = {fmtA, fmtB, fmtC (M_F32, M_F16, M_BF16, M_I32), K}
static void wmma(Machine *m, Wave *w, const Insn *in) {
  double A[16][32], Bm[16][32], D[8][32];
  u32 fa = in->a[0], fbm = in->a[1], fc = in->a[2], K = in->a[3];
  if (m->arch == RDNA3) {                               // lanes 16-31 must repeat lanes 0-15
    u32 ra = K * (u32)mbits((int)fa) / 32, rb = K * (u32)mbits((int)fbm) / 32;
    for (u32 i = 0; i < 16; i++) {
      for (u32 r = 0; r < ra && in->src[0] >= 256; r++) if (w->v[in->src[0] - 256 + r][i] != w->v[in->src[0] - 256 + r][i + 16]) { fail(m, E_WMMA_DUP, i, 0, 0); return; }
      for (u32 r = 0; r < rb && in->src[1] >= 256; r++) if (w->v[in->src[1] - 256 + r][i] != w->v[in->src[1] - 256 + r][i + 16]) { fail(m, E_WMMA_DUP, i, 1, 0); return; }
      for (u32 k = 0; k < K; k++) { A[i][k] = melem(m, w, in, in->src[0], i, k, (int)fa); Bm[i][k] = melem(m, w, in, in->src[1], i, k, (int)fbm); }
    }
  } else {
    u32 per = K / 2;
    for (u32 l = 0; l < 32; l++)
      for (u32 e = 0; e < per; e++) {
        A[l % 16][l / 16 * per + e] = melem(m, w, in, in->src[0], l, e, (int)fa);
        Bm[l % 16][l / 16 * per + e] = melem(m, w, in, in->src[1], l, e, (int)fbm);
      }
  }
  int half = fc == M_F16 || fc == M_BF16;
  for (u32 r = 0; r < 8; r++)
    for (u32 l = 0; l < 32; l++) {
      u32 row = m->arch == RDNA3 ? 2 * r + l / 16 : 8 * (l / 16) + r, col = l % 16;
      double acc = 0, c;
      for (u32 k = 0; k < K; k++) acc += A[row][k] * Bm[col][k];
      if (half) c = m->arch == RDNA3 ? melem(m, w, in, in->src[2], l, 2 * r + (in->opsel >> 2 & 1), (int)fc) : melem(m, w, in, in->src[2], l, r, (int)fc);
      else c = mcval(m, w, in, in->src[2], l, r, fc == M_I32);
      D[r][l] = acc + c;
    }
  for (u32 r = 0; r < 8; r++)
    for (u32 l = 0; l < 32; l++) {
      u32 *R = w->v[in->dst - 256];
      if (!half) { R[r * 64 + l] = fc == M_F32 ? fb((float)D[r][l]) : in->clamp ? sat_i32((i64)D[r][l]) : (u32)(i64)D[r][l]; continue; }
      u32 hv = fc == M_F16 ? d2h(D[r][l]) : f2b((float)D[r][l]);
      u32 reg = m->arch == RDNA3 ? r : r / 2, hi = m->arch == RDNA3 ? in->opsel >> 2 & 1 : r & 1;
      u32 *p = &R[reg * 64 + l];
      *p = hi ? (*p & 0xffff) | hv << 16 : (*p & 0xffff0000u) | hv;
    }
}
