// Number formats: f16, bf16, the 8-, 6- and 4-bit floats, and how f32/f64 round to them.
#ifndef KGEN_EMU_FORMATS_H
#define KGEN_EMU_FORMATS_H
#include "machine.h"

static inline float bf(u32 x) {
  float f;
  memcpy(&f, &x, 4);
  return f;
}
static inline u32 fb(float f) {
  u32 x;
  memcpy(&x, &f, 4);
  return x;
}
static inline double bd(u64 x) {
  double f;
  memcpy(&f, &x, 8);
  return f;
}
static inline u64 db(double f) {
  u64 x;
  memcpy(&x, &f, 8);
  return x;
}

// small binary float -> double; eb/mb exponent and mantissa bits, bias; ieee: top exponent is inf/nan
static double mini2d(u32 x, int eb, int mb, int bias, int ieee) {
  u32 m = x & ((1u << mb) - 1), e = (x >> mb) & ((1u << eb) - 1);
  double s = (x >> (eb + mb)) & 1 ? -1.0 : 1.0;
  if (ieee && e == (1u << eb) - 1) return m ? (double)NAN : s * (double)INFINITY;
  if (e == 0) return s * ldexp((double)m, 1 - bias - mb);
  return s * ldexp((double)(m | (1u << mb)), (int)e - bias - mb);
}
// finite double -> magnitude in units of the last place, round to nearest even (rtz when rz), as encoding bits;
// the caller deals with nan, inf and overflow (the result just keeps counting past the top finite code)
static u32 d2mini(double x, int mb, int bias, int rz) {
  double ax = fabs(x);
  int e;
  if (ax == 0) return 0;
  frexp(ax, &e);
  e -= 1;
  if (e < 1 - bias) e = 1 - bias;
  double q = ldexp(ax, mb - e);  // < 2^(mb+1)
  double r = rz ? trunc(q) : nearbyint(q);
  u64 n = (u64)r;  // mantissa with the hidden bit (none when subnormal)
  return (u32)(n + ((u64)(e + bias - 1) << mb));
}
// The common case, by integers: round to nearest even
static u16 d2h_nearest(double x) {
  u64 b = db(x), m = (b & 0xfffffffffffffull) | 1ull << 52;
  u16 s = (u16)(b >> 48 & 0x8000);
  int e = (int)(b >> 52 & 2047) - 1023;
  if (e >= 16) return e == 1024 && b << 12 ? s | 0x7e00 : s | 0x7c00;
  if (e < -25) return s;
  u32 shift = e >= -14 ? 42 : (u32)(28 - e);
  u64 n = m >> shift, rest = m & ((1ull << shift) - 1), half = 1ull << (shift - 1);
  n += rest > half || (rest == half && n & 1);
  return s | (u16)(n + (e >= -14 ? (u64)(e + 14) << 10 : 0));
}
static u16 d2h_(double x, int rz) {
#if defined(__SSE__)
  if (!rz && !(__builtin_ia32_stmxcsr() & 0x6000)) return d2h_nearest(x);
#endif
  u16 s = signbit(x) ? 0x8000 : 0;
  if (isnan(x)) return s | 0x7e00;
  if (isinf(x)) return s | 0x7c00;
  if (fabs(x) >= 65536.0 * 2) return s | (rz ? 0x7bff : 0x7c00);
  u32 m = d2mini(x, 10, 15, rz);
  if (m >= 0x7c00) m = rz ? 0x7bff : 0x7c00;
  return s | m;
}
static inline u16 d2h(double x) { return d2h_(x, 0); }
static inline float h2f(u16 h) {
  u32 s = (u32)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 0x3ff;
  if (e == 31) return bf(s | 0x7f800000u | m << 13 | (m ? 0x400000u : 0));
  if (e) return bf(s | (e + 112) << 23 | m << 13);
  float f = (float)m * 5.9604644775390625e-08f;
  return s ? -f : f;
}
static inline float b2f(u16 b) { return bf((u32)b << 16); }
static inline u16 f2b(float f) {  // round to nearest even
  u32 x = fb(f);
  if (f != f) return (u16)(x >> 16 | 0x40);
  return (u16)((x + 0x7fff + (x >> 16 & 1)) >> 16);
}
// 8-bit formats: OCP e4m3fn / e5m2 or, on gfx94x, the FNUZ pair
static inline float fp8f(const Machine *m, u8 x, int bf8) {
  u32 s = (u32)(x & 0x80) << 24, size = x & 0x7f, mb = bf8 ? 2 : 3, bias = (bf8 ? 15u : 7u) + !!m->fnuz;
  if (m->fnuz ? x == 0x80 : bf8 ? size > 0x7c : size == 0x7f) return NAN;
  if (!m->fnuz && bf8 && size == 0x7c) return bf(s | 0x7f800000u);
  if (size >> mb) return bf(s | (size << (23 - mb)) + ((127 - bias) << 23));
  float f = (float)size * bf((128 - bias - mb) << 23);                                             // subnormal
  return s ? -f : f;
}
static u8 f2fp8(Machine *m, Wave *w, float f, int bf8) {
  int ovfl = w->mode >> 23 & 1;  // MODE.FP16_OVFL: clamp instead of inf/nan
  u8 s = signbit(f) ? 0x80 : 0;
  if (m->fnuz) {
    if (isnan(f)) return 0x80;
    if (isinf(f)) return ovfl ? (s | 0x7f) : 0x80;
    u32 r = fabsf(f) > 1e6f ? 0xff : d2mini(f, bf8 ? 2 : 3, bf8 ? 16 : 8, 0);
    if (r > 0x7f) return ovfl ? (s | 0x7f) : 0x80;
    return r ? (s | r) : 0;
  }
  if (isnan(f)) return s | 0x7f;
  u32 top = bf8 ? 0x7b : 0x7e;
  u32 r = (isinf(f) || fabsf(f) > 1e6f) ? 0xff : d2mini(f, bf8 ? 2 : 3, bf8 ? 15 : 7, 0);
  if (r > top) return s | (ovfl ? top : bf8 ? 0x7c : 0x7f);
  return s | r;
}

#endif
