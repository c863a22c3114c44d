// Vector instructions on f32, f64 and f16.
// Returns 0, or -1 when the operation is not here.
#ifndef KGEN_EMU_VECTOR_FLOAT_H
#define KGEN_EMU_VECTOR_FLOAT_H
#include "packed.h"

static int valu_float(Machine *m, Wave *w, const Insn *in) {
  u64 s0[64], s1[64], s2[64], d[64];
  switch (in->op) {
    // ---- f32
    case OP_V_ADD_F32: OP2(f32, f32, f32, a + b);
    case OP_V_SUB_F32: OP2(f32, f32, f32, a - b);
    case OP_V_SUBREV_F32: OP2(f32, f32, f32, b - a);
    case OP_V_MUL_F32: OP2(f32, f32, f32, a * b);
    case OP_V_MUL_DX9_ZERO_F32:
    case OP_V_MUL_LEGACY_F32: OP2(f32, f32, f32, (float)dx9(a, b));
    case OP_V_FMA_DX9_ZERO_F32: OP3(f32, f32, f32, f32, a == 0 || b == 0 ? c : fmaf(a, b, c));
    case OP_V_FMAC_DX9_ZERO_F32: OPA(f32, f32, f32, a == 0 || b == 0 ? c : fmaf(a, b, c));
    case OP_V_FMA_F32: OP3(f32, f32, f32, f32, fmaf(a, b, c));
    case OP_V_FMAC_F32: OPA(f32, f32, f32, fmaf(a, b, c));
    case OP_V_FMAAK_F32: OP2(f32, f32, f32, fmaf(a, b, bf(in->lit)));
    case OP_V_FMAMK_F32: OP2(f32, f32, f32, fmaf(a, bf(in->lit), b));
    case OP_V_MIN_F32:
    case OP_V_MIN_NUM_F32: OP2(f32, f32, f32, (float)fmin_(a, b));
    case OP_V_MAX_F32:
    case OP_V_MAX_NUM_F32: OP2(f32, f32, f32, (float)fmax_(a, b));
    case OP_V_MINIMUM_F32: OP2(f32, f32, f32, (float)fminp(a, b));
    case OP_V_MAXIMUM_F32: OP2(f32, f32, f32, (float)fmaxp(a, b));
    case OP_V_MIN3_F32:
    case OP_V_MIN3_NUM_F32: OP3(f32, f32, f32, f32, (float)fmin_(fmin_(a, b), c));
    case OP_V_MAX3_F32:
    case OP_V_MAX3_NUM_F32: OP3(f32, f32, f32, f32, (float)fmax_(fmax_(a, b), c));
    case OP_V_MINIMUM3_F32: OP3(f32, f32, f32, f32, (float)fminp(fminp(a, b), c));
    case OP_V_MAXIMUM3_F32: OP3(f32, f32, f32, f32, (float)fmaxp(fmaxp(a, b), c));
    case OP_V_MED3_F32:
    case OP_V_MED3_NUM_F32: OP3(f32, f32, f32, f32, (float)fmed3(a, b, c));
    case OP_V_MINMAX_F32:
    case OP_V_MINMAX_NUM_F32: OP3(f32, f32, f32, f32, (float)fmax_(fmin_(a, b), c));
    case OP_V_MAXMIN_F32:
    case OP_V_MAXMIN_NUM_F32: OP3(f32, f32, f32, f32, (float)fmin_(fmax_(a, b), c));
    case OP_V_MINIMUMMAXIMUM_F32: OP3(f32, f32, f32, f32, (float)fmaxp(fminp(a, b), c));
    case OP_V_MAXIMUMMINIMUM_F32: OP3(f32, f32, f32, f32, (float)fminp(fmaxp(a, b), c));
    case OP_V_TRUNC_F32: OP1(f32, f32, truncf(a));
    case OP_V_CEIL_F32: OP1(f32, f32, ceilf(a));
    case OP_V_FLOOR_F32: OP1(f32, f32, floorf(a));
    case OP_V_RNDNE_F32: OP1(f32, f32, nearbyintf(a));
    case OP_V_FRACT_F32: OP1(f32, f32, (float)fracf_(a, 0.999999940395355224609375));
    case OP_V_EXP_F32:
    case OP_V_EXP_LEGACY_F32: OP1(f32, f32, exp2f(a));
    case OP_V_LOG_F32:
    case OP_V_LOG_LEGACY_F32: OP1(f32, f32, log2f(a));
    case OP_V_RCP_F32:
    case OP_V_RCP_IFLAG_F32: OP1(f32, f32, 1.0f / a);
    case OP_V_RSQ_F32: OP1(f32, f32, (float)(1.0 / sqrt((double)a)));
    case OP_V_SQRT_F32: OP1(f32, f32, sqrtf(a));
    case OP_V_SIN_F32: OP1(f32, f32, (float)sin(6.283185307179586 * ((double)a - floor(a))));
    case OP_V_COS_F32: OP1(f32, f32, (float)cos(6.283185307179586 * ((double)a - floor(a))));
    case OP_V_LDEXP_F32: OP2(f32, f32, i32, (float)ldexp((double)a, MIN(MAX(b, -2000), 2000)));
    case OP_V_FREXP_EXP_I32_F32:
      OP1(i32, f32, ({
            int e = 0;
            if (isfinite(a) && a != 0) frexp(a, &e);
            e;
          }));
    case OP_V_FREXP_MANT_F32:
      OP1(f32, f32, ({
            int e;
            isfinite(a) ? (float)frexp(a, &e) : a;
          }));
    case OP_V_DIV_FIXUP_F32: OP3(f32, f32, f32, f32, div_fixup32(a, b, c));
    case OP_V_DIV_FMAS_F32: {
      u64 vcc = rmask(m, w, in, 106);
      OP3(f32, f32, f32, f32, (vcc >> l & 1) ? (float)ldexp((double)fmaf(a, b, c), expo32(c) > 127 ? 64 : -64) : fmaf(a, b, c));
    }
    case OP_V_DIV_SCALE_F32: {
      u64 vcc = 0;
      F(0, f32);
      F(1, f32);
      F(2, f32);
      LANES {
        int v;
        d[l] = fb(div_scale32(bf((u32)s0[l]), bf((u32)s1[l]), bf((u32)s2[l]), &v));
        vcc |= (u64)v << l;
      }
      vcc &= w->wmask;
      put(m, w, in, T_f32, d);
      wmask(m, w, in->sdst, vcc);
    } break;
    // ---- f64
    case OP_V_ADD_F64: OP2(f64, f64, f64, a + b);
    case OP_V_MUL_F64: OP2(f64, f64, f64, a * b);
    case OP_V_FMA_F64: OP3(f64, f64, f64, f64, fma(a, b, c));
    case OP_V_FMAC_F64: OPA(f64, f64, f64, fma(a, b, c));
    case OP_V_MIN_F64:
    case OP_V_MIN_NUM_F64: OP2(f64, f64, f64, fmin_(a, b));
    case OP_V_MAX_F64:
    case OP_V_MAX_NUM_F64: OP2(f64, f64, f64, fmax_(a, b));
    case OP_V_MINIMUM_F64: OP2(f64, f64, f64, fminp(a, b));
    case OP_V_MAXIMUM_F64: OP2(f64, f64, f64, fmaxp(a, b));
    case OP_V_TRUNC_F64: OP1(f64, f64, trunc(a));
    case OP_V_CEIL_F64: OP1(f64, f64, ceil(a));
    case OP_V_FLOOR_F64: OP1(f64, f64, floor(a));
    case OP_V_RNDNE_F64: OP1(f64, f64, nearbyint(a));
    case OP_V_FRACT_F64: OP1(f64, f64, fracf_(a, 0.99999999999999988898));
    case OP_V_RCP_F64: OP1(f64, f64, 1.0 / a);
    case OP_V_RSQ_F64: OP1(f64, f64, 1.0 / sqrt(a));
    case OP_V_SQRT_F64: OP1(f64, f64, sqrt(a));
    case OP_V_LDEXP_F64: OP2(f64, f64, i32, ldexp(a, MIN(MAX(b, -5000), 5000)));
    case OP_V_FREXP_EXP_I32_F64:
      OP1(i32, f64, ({
            int e = 0;
            if (isfinite(a) && a != 0) frexp(a, &e);
            e;
          }));
    case OP_V_FREXP_MANT_F64:
      OP1(f64, f64, ({
            int e;
            isfinite(a) ? frexp(a, &e) : a;
          }));
    case OP_V_DIV_FIXUP_F64: OP3(f64, f64, f64, f64, div_fixup64(a, b, c));
    case OP_V_DIV_FMAS_F64: {
      u64 vcc = rmask(m, w, in, 106);
      OP3(f64, f64, f64, f64, (vcc >> l & 1) ? ldexp(fma(a, b, c), expo64(c) > 1023 ? 128 : -128) : fma(a, b, c));
    }
    case OP_V_DIV_SCALE_F64: {
      u64 vcc = 0;
      F(0, f64);
      F(1, f64);
      F(2, f64);
      LANES {
        int v;
        d[l] = db(div_scale64(bd(s0[l]), bd(s1[l]), bd(s2[l]), &v));
        vcc |= (u64)v << l;
      }
      vcc &= w->wmask;
      put(m, w, in, T_f64, d);
      wmask(m, w, in->sdst, vcc);
    } break;
    // ---- f16 (computed in double, rounded once)
    case OP_V_ADD_F16: OP2(f16, f16, f16, a + b);
    case OP_V_SUB_F16: OP2(f16, f16, f16, a - b);
    case OP_V_SUBREV_F16: OP2(f16, f16, f16, b - a);
    case OP_V_MUL_F16: OP2(f16, f16, f16, a * b);
    case OP_V_FMA_F16:
    case OP_V_FMA_LEGACY_F16: OP3(f16, f16, f16, f16, a * b + c);
    case OP_V_MAD_F16:
    case OP_V_MAD_LEGACY_F16: OP3(f16, f16, f16, f16, (double)h2f(d2h(a * b)) + c);
    case OP_V_FMAC_F16: OPA(f16, f16, f16, a * b + c);
    case OP_V_FMAAK_F16: OP2(f16, f16, f16, a * b + h2f((u16)in->lit));
    case OP_V_FMAMK_F16: OP2(f16, f16, f16, a * h2f((u16)in->lit) + b);
    case OP_V_MIN_F16:
    case OP_V_MIN_NUM_F16: OP2(f16, f16, f16, fmin_(a, b));
    case OP_V_MAX_F16:
    case OP_V_MAX_NUM_F16: OP2(f16, f16, f16, fmax_(a, b));
    case OP_V_MINIMUM_F16: OP2(f16, f16, f16, fminp(a, b));
    case OP_V_MAXIMUM_F16: OP2(f16, f16, f16, fmaxp(a, b));
    case OP_V_MIN3_F16:
    case OP_V_MIN3_NUM_F16: OP3(f16, f16, f16, f16, fmin_(fmin_(a, b), c));
    case OP_V_MAX3_F16:
    case OP_V_MAX3_NUM_F16: OP3(f16, f16, f16, f16, fmax_(fmax_(a, b), c));
    case OP_V_MINIMUM3_F16: OP3(f16, f16, f16, f16, fminp(fminp(a, b), c));
    case OP_V_MAXIMUM3_F16: OP3(f16, f16, f16, f16, fmaxp(fmaxp(a, b), c));
    case OP_V_MED3_F16:
    case OP_V_MED3_NUM_F16: OP3(f16, f16, f16, f16, fmed3(a, b, c));
    case OP_V_MINMAX_F16:
    case OP_V_MINMAX_NUM_F16: OP3(f16, f16, f16, f16, fmax_(fmin_(a, b), c));
    case OP_V_MAXMIN_F16:
    case OP_V_MAXMIN_NUM_F16: OP3(f16, f16, f16, f16, fmin_(fmax_(a, b), c));
    case OP_V_TRUNC_F16: OP1(f16, f16, trunc(a));
    case OP_V_CEIL_F16: OP1(f16, f16, ceil(a));
    case OP_V_FLOOR_F16: OP1(f16, f16, floor(a));
    case OP_V_RNDNE_F16: OP1(f16, f16, nearbyint(a));
    case OP_V_FRACT_F16: OP1(f16, f16, fracf_(a, 0.99951171875));
    case OP_V_EXP_F16: OP1(f16, f16, exp2(a));
    case OP_V_LOG_F16: OP1(f16, f16, log2(a));
    case OP_V_RCP_F16: OP1(f16, f16, 1.0 / a);
    case OP_V_RSQ_F16: OP1(f16, f16, 1.0 / sqrt(a));
    case OP_V_SQRT_F16: OP1(f16, f16, sqrt(a));
    case OP_V_SIN_F16: OP1(f16, f16, sin(6.283185307179586 * (a - floor(a))));
    case OP_V_COS_F16: OP1(f16, f16, cos(6.283185307179586 * (a - floor(a))));
    case OP_V_LDEXP_F16: OP2(f16, f16, i16, ldexp(a, b));
    case OP_V_FREXP_EXP_I16_F16:
      OP1(i16, f16, ({
            int e = 0;
            if (isfinite(a) && a != 0) frexp(a, &e);
            e;
          }));
    case OP_V_FREXP_MANT_F16:
      OP1(f16, f16, ({
            int e;
            isfinite(a) ? frexp(a, &e) : a;
          }));
    case OP_V_DIV_FIXUP_F16:
    case OP_V_DIV_FIXUP_LEGACY_F16:
      OP3(f16, f16, f16, f16, ({
            double q = a;
            int s = !!signbit(b) ^ !!signbit(c);
            double r;
            if (c != c) r = c;
            else if (b != b) r = b;
            else if ((b == 0 && c == 0) || (isinf(b) && isinf(c))) r = (double)NAN;
            else if (b == 0 || isinf(c)) r = s ? -(double)INFINITY : (double)INFINITY;
            else if (isinf(b) || c == 0) r = s ? -0.0 : 0.0;
            else r = s ? -fabs(q) : fabs(q);
            r;
          }));
    case OP_V_PK_FMAC_F16: {
      F(0, u32);
      F(1, u32);
      LANES {
        u32 *r = &w->v[in->dst - 256][l];
        u32 x = (u32)s0[l], y = (u32)s1[l];
        d[l] = d2h((double)h2f((u16)x) * h2f((u16)y) + h2f((u16)*r)) |
               (u32)d2h((double)h2f((u16)(x >> 16)) * h2f((u16)(y >> 16)) + h2f((u16)(*r >> 16))) << 16;
      }
      put(m, w, in, T_u32, d);
    } break;
    default: return -1;
  }
  return 0;
}

#endif
