// Arithmetic that C does not have: bit fields, saturation, min/max with AMD NaN rules, division steps, comparisons.
#ifndef KGEN_EMU_ARITHMETIC_H
#define KGEN_EMU_ARITHMETIC_H
#include "operands.h"

static double fmin_(double a, double b) { return a != a ? b : b != b ? a : a < b || (a == b && signbit(a)) ? a : b; }
static double fmax_(double a, double b) { return a != a ? b : b != b ? a : a > b || (a == b && !signbit(a)) ? a : b; }
static double fminp(double a, double b) { return a != a ? a : b != b ? b : a < b || (a == b && signbit(a)) ? a : b; }  // NaN wins
static double fmaxp(double a, double b) { return a != a ? a : b != b ? b : a > b || (a == b && !signbit(a)) ? a : b; }
static double fmed3(double a, double b, double c) {
  if (a != a || b != b || c != c) return fmin_(fmin_(a, b), c);
  return fmax_(fmin_(a, b), fmin_(fmax_(a, b), c));
}
#define MED3(a, b, c) MAX(MIN(a, b), MIN(MAX(a, b), c))
static i32 f2i(double x) { return x != x ? 0 : x >= 2147483647.0 ? 0x7fffffff : x <= -2147483648.0 ? (i32)0x80000000 : (i32)x; }
static u32 f2u(double x) { return x != x ? 0 : x >= 4294967295.0 ? 0xffffffffu : x <= 0 ? 0 : (u32)x; }
static i16 f2i16(double x) { return x != x ? 0 : x >= 32767 ? 32767 : x <= -32768 ? -32768 : (i16)x; }
static u16 f2u16(double x) { return x != x ? 0 : x >= 65535 ? 65535 : x <= 0 ? 0 : (u16)x; }
static double dx9(double a, double b) { return a == 0 || b == 0 ? 0 : a * b; }
static double fracf_(double x, double top) {
  double r = x - floor(x);
  return r > top ? top : r;
}
static u32 clz32(u32 x) { return x ? (u32)__builtin_clz(x) : 0xffffffffu; }
static u32 ctz32(u32 x) { return x ? (u32)__builtin_ctz(x) : 0xffffffffu; }
static u32 cls32(i32 x) {
  u32 y = (u32)(x < 0 ? ~x : x);
  return y ? (u32)__builtin_clz(y) : 0xffffffffu;
}
static u32 brev32(u32 x) {
  u32 r = 0;
  for (int i = 0; i < 32; i++) r |= (x >> i & 1) << (31 - i);
  return r;
}
static u64 brev64(u64 x) { return (u64)brev32((u32)x) << 32 | brev32((u32)(x >> 32)); }
static u32 bfe_u(u32 a, u32 off, u32 n) {
  off &= 31;
  n &= 31;
  return n ? (a >> off) & ((1u << n) - 1) : 0;
}
static i32 bfe_i(i32 a, u32 off, u32 n) {
  off &= 31;
  n &= 31;
  if (!n) return 0;
  i32 v = a >> off;  // arithmetic shift supplies the sign past bit 31
  return n + off >= 32 ? v : (i32)((u32)v << (32 - n)) >> (32 - n);
}
static u32 perm(u32 s0, u32 s1, u32 sel) {
  u64 in = (u64)s0 << 32 | s1;
  u32 r = 0;
  for (int i = 0; i < 4; i++) {
    u32 c = sel >> 8 * i & 0xff, v;
    if (c >= 13) v = 0xff;
    else if (c == 12) v = 0;
    else if (c >= 8) v = (in >> (c == 8 ? 15 : c == 9 ? 31 : c == 10 ? 47 : 63)) & 1 ? 0xff : 0;
    else v = in >> 8 * c & 0xff;
    r |= v << 8 * i;
  }
  return r;
}
static u32 sad8(u32 a, u32 b, u32 c, int msk) {
  for (int i = 0; i < 4; i++) {
    int x = a >> 8 * i & 255, y = b >> 8 * i & 255;
    if (!msk || y) c += (u32)(x > y ? x - y : y - x);
  }
  return c;
}
static int dot4(u32 a, u32 b, int sa, int sb) {
  int r = 0;
  for (int i = 0; i < 4; i++) {
    int x = a >> 8 * i & 255, y = b >> 8 * i & 255;
    if (sa) x = (i8)x;
    if (sb) y = (i8)y;
    r += x * y;
  }
  return r;
}
static int sx4(int x, int s) { return s && x & 8 ? x - 16 : x; }
static int dot8(u32 a, u32 b, int sa, int sb) {
  int r = 0;
  for (int i = 0; i < 8; i++) r += sx4(a >> 4 * i & 15, sa) * sx4(b >> 4 * i & 15, sb);
  return r;
}
static u32 sat_i32(i64 v) { return v > 0x7fffffff ? 0x7fffffffu : v < -0x80000000ll ? 0x80000000u : (u32)v; }
static u32 norm16(double x, int sgn) {
  x = x != x ? 0 : sgn ? fmax(-1, fmin(1, x)) : fmax(0, fmin(1, x));
  return (u16)(i32)nearbyint(x * (sgn ? 32767.0 : 65535.0));
}
static float dot2h(u32 a, u32 b, float c) {  // products exact, one rounding at the end
  return (float)((double)h2f((u16)a) * h2f((u16)b) + (double)h2f((u16)(a >> 16)) * h2f((u16)(b >> 16)) + c);
}
static float dot2b(u32 a, u32 b, float c) {
  return (float)((double)b2f((u16)a) * b2f((u16)b) + (double)b2f((u16)(a >> 16)) * b2f((u16)(b >> 16)) + c);
}
static int expo32(float f) { return fb(f) >> 23 & 255; }
static int expo64(double f) { return (int)(db(f) >> 52 & 2047); }

#define DIV_SCALE(NAME, T, EXP, BIG, TINY, LD, MINN)                                                           \
  static T NAME(T a, T b, T c, int *vcc) { /* a = S0 (value to scale), b = S1 denominator, c = S2 numerator */ \
    int isden_b = b != 0 && EXP(b) == 0;                                                                       \
    T q = c / b;                                                                                               \
    int qden = q != 0 && fabs((double)q) < (double)(MINN);                                                     \
    double rb = 1.0 / (double)b;                                                                               \
    int rbden = rb != 0 && fabs(rb) < 2.2250738585072014e-308;                                                 \
    *vcc = 0;                                                                                                  \
    if (c == 0 || b == 0) return (T)NAN;                                                                       \
    if (EXP(c) - EXP(b) >= BIG) {                                                                              \
      *vcc = 1;                                                                                                \
      return a == b ? (T)ldexp(a, LD) : a;                                                                     \
    }                                                                                                          \
    if (isden_b) return (T)ldexp(a, LD);                                                                       \
    if (rbden && qden) {                                                                                       \
      *vcc = 1;                                                                                                \
      return a == b ? (T)ldexp(a, LD) : a;                                                                     \
    }                                                                                                          \
    if (rbden) return (T)ldexp(a, -(LD));                                                                      \
    if (qden) {                                                                                                \
      *vcc = 1;                                                                                                \
      return a == c ? (T)ldexp(a, LD) : a;                                                                     \
    }                                                                                                          \
    if (EXP(c) <= TINY) return (T)ldexp(a, LD);                                                                \
    return a;                                                                                                  \
  }
DIV_SCALE(div_scale32, float, expo32, 96, 23, 64, 1.17549435e-38)
DIV_SCALE(div_scale64, double, expo64, 768, 53, 128, 2.2250738585072014e-308)

#define DIV_FIXUP(NAME, T, EXP, LO, HI)                                                      \
  static T NAME(T q, T b, T c) { /* q = quotient estimate, b = denominator, c = numerator */ \
    int s = !!signbit(b) ^ !!signbit(c);                                                     \
    T inf = (T)INFINITY;                                                                     \
    if (c != c) return c;                                                                    \
    if (b != b) return b;                                                                    \
    if ((b == 0 && c == 0) || (isinf(b) && isinf(c))) return -(T)NAN;                        \
    if (b == 0 || isinf(c)) return s ? -inf : inf;                                           \
    if (isinf(b) || c == 0) return s ? -(T)0 : (T)0;                                         \
    if (EXP(c) - EXP(b) < LO) return s ? -(T)0 : (T)0;                                       \
    if (EXP(b) == HI) return s ? -inf : inf;                                                 \
    if (q != q) return s ? -inf : inf;                                                       \
    return s ? -(T)fabs(q) : (T)fabs(q);                                                     \
  }
DIV_FIXUP(div_fixup32, float, expo32, -150, 255)
DIV_FIXUP(div_fixup64, double, expo64, -1075, 2047)

static int cmpf(double a, double b, int cond) {
  switch (cond) {
    case 0: return 0;
    case 1: return a < b;
    case 2: return a == b;
    case 3: return a <= b;
    case 4: return a > b;
    case 5: return a < b || a > b;
    case 6: return a >= b;
    case 7: return a == a && b == b;
    case 8: return a != a || b != b;
    case 9: return !(a >= b);
    case 10: return !(a < b || a > b);
    case 11: return !(a > b);
    case 12: return !(a <= b);
    case 13: return !(a == b);
    case 14: return !(a < b);
  }
  return 1;
}
#define CMPI(T)                                    \
  static int cmp_##T(C_##T a, C_##T b, int cond) { \
    switch (cond) {                                \
      case 0: return 0;                            \
      case 1: return a < b;                        \
      case 2: return a == b;                       \
      case 3: return a <= b;                       \
      case 4: return a > b;                        \
      case 5: return a != b;                       \
      case 6: return a >= b;                       \
    }                                              \
    return 1;                                      \
  }
CMPI(i16) CMPI(u16) CMPI(i32) CMPI(u32) CMPI(i64) CMPI(u64) static int fclass(u64 bits, int t, u32 sel) {
  int mb = t == T_f16 ? 10 : t == T_f32 ? 23 : 52, eb = t == T_f16 ? 5 : t == T_f32 ? 8 : 11;
  u64 mant = bits & ((1ull << mb) - 1);
  u32 e = (u32)(bits >> mb) & ((1u << eb) - 1);
  int s = (int)(bits >> (mb + eb)) & 1, k;
  if (e == (1u << eb) - 1) k = mant ? (mant >> (mb - 1) & 1 ? 1 : 0) : (s ? 2 : 9);
  else if (e) k = s ? 3 : 8;
  else if (mant) k = s ? 4 : 7;
  else k = s ? 5 : 6;
  return sel >> k & 1;
}

#endif
