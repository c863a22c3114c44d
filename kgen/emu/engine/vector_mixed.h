// Vector instructions that mix formats or lanes: dot products, conversions, comparisons, permutes, packed, matrix.
// Returns 0, or -1 when the operation is not here.
#ifndef KGEN_EMU_VECTOR_MIXED_H
#define KGEN_EMU_VECTOR_MIXED_H
#include "packed.h"

static int valu_mixed(Machine *m, Wave *w, const Insn *in) {
  u64 s0[64], s1[64], s2[64], d[64];
  switch (in->op) {
    // ---- dot products
    case OP_V_DOT2_F32_F16: {
      pkfetch(m, w, in, 0, T_f16, s0);
      pkfetch(m, w, in, 1, T_f16, s1);
      F(2, f32);
      LANES d[l] = fb(dot2h((u32)s0[l], (u32)s1[l], bf((u32)s2[l])));
      put(m, w, in, T_f32, d);
    } break;
    case OP_V_DOT2_F32_BF16: {
      pkfetch(m, w, in, 0, T_bf16, s0);
      pkfetch(m, w, in, 1, T_bf16, s1);
      F(2, f32);
      LANES d[l] = fb(dot2b((u32)s0[l], (u32)s1[l], bf((u32)s2[l])));
      put(m, w, in, T_f32, d);
    } break;
    case OP_V_DOT2C_F32_F16:
    case OP_V_DOT2ACC_F32_F16: OPA(f32, u32, u32, dot2h(a, b, c));
    case OP_V_DOT2C_F32_BF16:
    case OP_V_DOT2ACC_F32_BF16: OPA(f32, u32, u32, dot2b(a, b, c));
    case OP_V_DOT2_F16_F16:
      OP3(f16, u32, u32, f16, (double)h2f((u16)a) * h2f((u16)b) + (double)h2f((u16)(a >> 16)) * h2f((u16)(b >> 16)) + c);
    case OP_V_DOT2_BF16_BF16: OP3(bf16, u32, u32, bf16, dot2b(a, b, c));
    case OP_V_DOT4_I32_IU8: {
      int sa = in->neg & 1, sb = in->neg >> 1 & 1;
      OP3(u32, u32, u32, i32, in->clamp ? sat_i32((i64)c + dot4(a, b, sa, sb)) : (u32)(c + (i64)dot4(a, b, sa, sb)));
    }
    case OP_V_DOT8_I32_IU4: {
      int sa = in->neg & 1, sb = in->neg >> 1 & 1;
      OP3(u32, u32, u32, i32, in->clamp ? sat_i32((i64)c + dot8(a, b, sa, sb)) : (u32)(c + (i64)dot8(a, b, sa, sb)));
    }
    case OP_V_DOT4_I32_I8: OP3(u32, u32, u32, i32, in->clamp ? sat_i32((i64)c + dot4(a, b, 1, 1)) : (u32)(c + (i64)dot4(a, b, 1, 1)));
    case OP_V_DOT8_I32_I4: OP3(u32, u32, u32, i32, in->clamp ? sat_i32((i64)c + dot8(a, b, 1, 1)) : (u32)(c + (i64)dot8(a, b, 1, 1)));
    case OP_V_DOT4C_I32_I8: OPA(u32, u32, u32, c + (u32)dot4(a, b, 1, 1));
    case OP_V_DOT8C_I32_I4: OPA(u32, u32, u32, c + (u32)dot8(a, b, 1, 1));
    case OP_V_DOT4_U32_U8:
      OP3(u32, u32, u32, u32, in->clamp ? (u32)MIN((u64)c + (u32)dot4(a, b, 0, 0), 0xffffffffull) : c + (u32)dot4(a, b, 0, 0));
    case OP_V_DOT8_U32_U4:
      OP3(u32, u32, u32, u32, in->clamp ? (u32)MIN((u64)c + (u32)dot8(a, b, 0, 0), 0xffffffffull) : c + (u32)dot8(a, b, 0, 0));
    case OP_V_DOT2_I32_I16: OP3(u32, u32, u32, u32, c + (u32)((i32)(i16)a * (i16)b) + (u32)((i32)(i16)(a >> 16) * (i16)(b >> 16)));
    case OP_V_DOT2_U32_U16: OP3(u32, u32, u32, u32, c + (a & 0xffff) * (b & 0xffff) + (a >> 16) * (b >> 16));
#define DOT4F8(x, y)                                                                                          \
  OP3(f32, u32, u32, f32, ({                                                                                  \
        double r = c;                                                                                         \
        for (int i = 0; i < 4; i++) r += (double)fp8f(m, (u8)(a >> 8 * i), x) * fp8f(m, (u8)(b >> 8 * i), y); \
        (float)r;                                                                                             \
      }))
    case OP_V_DOT4_F32_FP8_FP8: DOT4F8(0, 0);
    case OP_V_DOT4_F32_FP8_BF8: DOT4F8(0, 1);
    case OP_V_DOT4_F32_BF8_FP8: DOT4F8(1, 0);
    case OP_V_DOT4_F32_BF8_BF8: DOT4F8(1, 1);
    // ---- conversions
    case OP_V_CVT_F32_I32: OP1(f32, i32, (float)a);
    case OP_V_CVT_F32_U32: OP1(f32, u32, (float)a);
    case OP_V_CVT_I32_F32: OP1(i32, f32, f2i(a));
    case OP_V_CVT_U32_F32: OP1(u32, f32, f2u(a));
    case OP_V_CVT_NEAREST_I32_F32:
    case OP_V_CVT_RPI_I32_F32: OP1(i32, f32, f2i(floor((double)a + 0.5)));
    case OP_V_CVT_FLOOR_I32_F32:
    case OP_V_CVT_FLR_I32_F32: OP1(i32, f32, f2i(floor(a)));
    case OP_V_CVT_OFF_F32_I4: OP1(f32, u32, (float)sx4(a & 15, 1) / 16.0f);
    case OP_V_CVT_F32_UBYTE0: OP1(f32, u32, (float)(a & 255));
    case OP_V_CVT_F32_UBYTE1: OP1(f32, u32, (float)(a >> 8 & 255));
    case OP_V_CVT_F32_UBYTE2: OP1(f32, u32, (float)(a >> 16 & 255));
    case OP_V_CVT_F32_UBYTE3: OP1(f32, u32, (float)(a >> 24));
    case OP_V_CVT_F64_I32: OP1(f64, i32, (double)a);
    case OP_V_CVT_F64_U32: OP1(f64, u32, (double)a);
    case OP_V_CVT_I32_F64: OP1(i32, f64, f2i(a));
    case OP_V_CVT_U32_F64: OP1(u32, f64, f2u(a));
    case OP_V_CVT_F64_F32: OP1(f64, f32, (double)a);
    case OP_V_CVT_F32_F64: OP1(f32, f64, (float)a);
    case OP_V_CVT_F16_F32: OP1(f16, f32, (double)a);
    case OP_V_CVT_F32_F16: OP1(f32, f16, (float)a);
    case OP_V_CVT_F16_U16: OP1(f16, u16, (double)a);
    case OP_V_CVT_F16_I16: OP1(f16, i16, (double)a);
    case OP_V_CVT_U16_F16: OP1(u16, f16, f2u16(a));
    case OP_V_CVT_I16_F16: OP1(i16, f16, f2i16(a));
    case OP_V_CVT_F32_BF16: OP1(f32, bf16, a);
    case OP_V_CVT_PK_RTZ_F16_F32:
    case OP_V_CVT_PKRTZ_F16_F32: OP2(u32, f32, f32, d2h_(a, 1) | (u32)d2h_(b, 1) << 16);
    case OP_V_CVT_PK_F16_F32: OP2(u32, f32, f32, d2h(a) | (u32)d2h(b) << 16);
    case OP_V_CVT_PK_BF16_F32: OP2(u32, f32, f32, f2b(a) | (u32)f2b(b) << 16);
    case OP_V_CVT_PK_I16_I32: OP2(u32, i32, i32, (u16)MIN(MAX(a, -32768), 32767) | (u32)(u16)MIN(MAX(b, -32768), 32767) << 16);
    case OP_V_CVT_PK_U16_U32: OP2(u32, u32, u32, MIN(a, 65535u) | MIN(b, 65535u) << 16);
    case OP_V_CVT_PK_I16_F32: OP2(u32, f32, f32, (u16)f2i16(a) | (u32)(u16)f2i16(b) << 16);
    case OP_V_CVT_PK_U16_F32: OP2(u32, f32, f32, f2u16(a) | (u32)f2u16(b) << 16);
    case OP_V_CVT_PK_NORM_I16_F32:
    case OP_V_CVT_PKNORM_I16_F32: OP2(u32, f32, f32, norm16(a, 1) | norm16(b, 1) << 16);
    case OP_V_CVT_PK_NORM_U16_F32:
    case OP_V_CVT_PKNORM_U16_F32: OP2(u32, f32, f32, norm16(a, 0) | norm16(b, 0) << 16);
    case OP_V_CVT_PK_U8_F32:
      OP3(u32, f32, u32, u32, (c & ~(0xffu << 8 * (b & 3))) | (u32)MIN(f2u(nearbyint((double)a)), 255u) << 8 * (b & 3));
    case OP_V_CVT_F32_FP8:
    case OP_V_CVT_F32_BF8: {
      int q = in->op == OP_V_CVT_F32_BF8, sel = in->sdwa || m->arch == CDNA ? 0 : (in->opsel & 1) << 1 | (in->opsel >> 1 & 1);
      Insn t = *in;
      t.opsel = 0;
      t.neg = t.abs = 0;
      fetch(m, w, &t, 0, T_u32, s0);
      LANES d[l] = fb(fp8f(m, (u8)(s0[l] >> 8 * sel), q));
      put(m, w, &t, T_f32, d);
    } break;
    case OP_V_CVT_PK_F32_FP8:
    case OP_V_CVT_PK_F32_BF8: {
      int q = in->op == OP_V_CVT_PK_F32_BF8, sel = in->sdwa ? 0 : in->opsel & 1;
      Insn t = *in;
      t.opsel = 0;
      fetch(m, w, &t, 0, T_u32, s0);
      t.sdwa = 0;
      LANES d[l] = fb(fp8f(m, (u8)(s0[l] >> 16 * sel), q)) | (u64)fb(fp8f(m, (u8)(s0[l] >> (16 * sel + 8)), q)) << 32;
      put(m, w, &t, T_u64, d);
    } break;
    case OP_V_CVT_PK_FP8_F32:
    case OP_V_CVT_PK_BF8_F32: {
      int q = in->op == OP_V_CVT_PK_BF8_F32;
      F(0, f32);
      F(1, f32);
      Insn t = *in;
      t.keep16 = 1;
      LANES d[l] = f2fp8(m, w, bf((u32)s0[l]), q) | (u32)f2fp8(m, w, bf((u32)s1[l]), q) << 8;
      put(m, w, &t, T_u16, d);
    } break;
    // ---- comparisons: a = {condition, type, cmpx}
    case OP_V_CMP: {
      u64 r = 0;
      int t = in->a[1], cnd = in->a[0];
      fetch(m, w, in, 0, t, s0);
      fetch(m, w, in, 1, t, s1);
      LANES {
        int x;
        switch (t) {
          case T_f16: x = cmpf(G_f16(s0[l]), G_f16(s1[l]), cnd); break;
          case T_f32: x = cmpf(G_f32(s0[l]), G_f32(s1[l]), cnd); break;
          case T_f64: x = cmpf(bd(s0[l]), bd(s1[l]), cnd); break;
          case T_i16: x = cmp_i16((i16)s0[l], (i16)s1[l], cnd); break;
          case T_u16: x = cmp_u16((u16)s0[l], (u16)s1[l], cnd); break;
          case T_i32: x = cmp_i32((i32)s0[l], (i32)s1[l], cnd); break;
          case T_u32: x = cmp_u32((u32)s0[l], (u32)s1[l], cnd); break;
          case T_i64: x = cmp_i64((i64)s0[l], (i64)s1[l], cnd); break;
          default: x = cmp_u64(s0[l], s1[l], cnd);
        }
        r |= (u64)x << l;
      }
      r &= w->wmask;
      if (in->a[2]) {
        wmask(m, w, 126, r);
        if (m->arch == CDNA) wmask(m, w, in->sdst, r);
      } else wmask(m, w, in->sdst, r);
    } break;
    case OP_V_CMP_CLASS: {
      u64 r = 0;
      fetch(m, w, in, 0, in->a[1], s0);
      Insn t = *in;
      t.neg = t.abs = 0;
      fetch(m, w, &t, 1, T_u32, s1);
      LANES r |= (u64)fclass(s0[l], in->a[1], (u32)s1[l]) << l;
      r &= w->wmask;
      if (in->a[2]) {
        wmask(m, w, 126, r);
        if (m->arch == CDNA) wmask(m, w, in->sdst, r);
      } else wmask(m, w, in->sdst, r);
    } break;
    // ---- cross-lane
    case OP_V_READFIRSTLANE_B32: {
      u64 ex = execm(w);
      u32 l0 = ex ? (u32)__builtin_ctzll(ex) : 0;
      F(0, u32);
      sw32(m, w, in->dst & 255, (u32)s0[l0]);
    } break;
    case OP_V_READLANE_B32: {
      F(0, u32);
      sw32(m, w, in->dst & 255, (u32)s0[sr32(m, w, in, 1) & (W - 1)]);
    } break;
    case OP_V_WRITELANE_B32: w->v[in->dst - 256][sr32(m, w, in, 1) & (W - 1)] = sr32(m, w, in, 0); break;
    case OP_V_PERMLANE16_B32:
    case OP_V_PERMLANEX16_B32:
    case OP_V_PERMLANE16_VAR_B32:
    case OP_V_PERMLANEX16_VAR_B32: {
      int var = in->op == OP_V_PERMLANE16_VAR_B32 || in->op == OP_V_PERMLANEX16_VAR_B32,
          x = in->op == OP_V_PERMLANEX16_B32 || in->op == OP_V_PERMLANEX16_VAR_B32;
      u64 ex = execm(w), sel = var ? 0 : sr32(m, w, in, 1) | (u64)sr32(m, w, in, 2) << 32;
      Insn t = *in;
      t.opsel = 0;
      fetch(m, w, &t, 0, T_u32, s0);
      if (var) fetch(m, w, &t, 1, T_u32, s1);
      LANES {
        u32 s = ((l & ~15u) ^ (x ? 16 : 0)) + (var ? (u32)s1[l] & 15 : (u32)(sel >> 4 * (l & 15)) & 15);
        if ((in->opsel & 1) || (ex >> s & 1)) d[l] = s0[s];
        else if (in->opsel & 2) d[l] = 0;
        else {
          d[l] = 0;
          w->wmask &= ~(1ull << l);
        }
      }
      put(m, w, &t, T_u32, d);
    } break;
    case OP_V_PERMLANE64_B32: break;  // no effect in wave32
    case OP_V_PERMLANE32_SWAP_B32:
      for (u32 l = 0; l < 32; l++) {
        u32 *p = &w->v[in->dst - 256][l + 32], *q = &w->v[in->src[0] - 256][l], t = *p;
        *p = *q;
        *q = t;
      }
      break;
    case OP_V_PERMLANE16_SWAP_B32:
      for (u32 l = 0; l < 64; l++)
        if (!(l & 16)) {
          u32 *p = &w->v[in->dst - 256][l + 16], *q = &w->v[in->src[0] - 256][l], t = *p;
          *p = *q;
          *q = t;
        }
      break;
    // ---- pseudo scalar (RDNA4)
    case OP_V_S_EXP_F32: sw32(m, w, in->dst & 255, fb(exp2f(bf(sr32(m, w, in, 0) ^ (u32)(in->neg & 1) << 31)))); break;
    case OP_V_S_LOG_F32: sw32(m, w, in->dst & 255, fb(log2f(bf(sr32(m, w, in, 0))))); break;
    case OP_V_S_RCP_F32: sw32(m, w, in->dst & 255, fb(1.0f / bf(sr32(m, w, in, 0) ^ (u32)(in->neg & 1) << 31))); break;
    case OP_V_S_RSQ_F32: sw32(m, w, in->dst & 255, fb((float)(1.0 / sqrt((double)bf(sr32(m, w, in, 0)))))); break;
    case OP_V_S_SQRT_F32: sw32(m, w, in->dst & 255, fb(sqrtf(bf(sr32(m, w, in, 0))))); break;
    // ---- packed
    case OP_V_PK_ADD_F16: PK2(f16, a + b);
    case OP_V_PK_MUL_F16: PK2(f16, a * b);
    case OP_V_PK_FMA_F16: PK3(f16, a * b + c);
    case OP_V_PK_MIN_F16:
    case OP_V_PK_MIN_NUM_F16: PK2(f16, fmin_(a, b));
    case OP_V_PK_MAX_F16:
    case OP_V_PK_MAX_NUM_F16: PK2(f16, fmax_(a, b));
    case OP_V_PK_MINIMUM_F16: PK2(f16, fminp(a, b));
    case OP_V_PK_MAXIMUM_F16: PK2(f16, fmaxp(a, b));
    case OP_V_PK_MINIMUM3_F16: PK3(f16, fminp(fminp(a, b), c));
    case OP_V_PK_MAXIMUM3_F16: PK3(f16, fmaxp(fmaxp(a, b), c));
    case OP_V_PK_ADD_I16: PK2(i16, in->clamp ? MIN(MAX(a + b, -32768), 32767) : a + b);
    case OP_V_PK_SUB_I16: PK2(i16, in->clamp ? MIN(MAX(a - b, -32768), 32767) : a - b);
    case OP_V_PK_ADD_U16: PK2(u16, in->clamp ? MIN(a + b, 65535) : a + b);
    case OP_V_PK_SUB_U16: PK2(u16, in->clamp ? MAX(a - b, 0) : a - b);
    case OP_V_PK_MUL_LO_U16: PK2(u16, (u32)a * b);
    case OP_V_PK_MAD_U16: PK3(u16, (u32)a * b + c);
    case OP_V_PK_MAD_I16: PK3(i16, a * b + c);
    case OP_V_PK_MIN_I16: PK2(i16, MIN(a, b));
    case OP_V_PK_MAX_I16: PK2(i16, MAX(a, b));
    case OP_V_PK_MIN_U16: PK2(u16, MIN(a, b));
    case OP_V_PK_MAX_U16: PK2(u16, MAX(a, b));
    case OP_V_PK_LSHLREV_B16: PK2(u16, b << (a & 15));
    case OP_V_PK_LSHRREV_B16: PK2(u16, b >> (a & 15));
    case OP_V_PK_ASHRREV_I16: PK2(i16, b >> (a & 15));
    case OP_V_PK_ADD_F32:
    case OP_V_PK_MUL_F32:
    case OP_V_PK_FMA_F32: {
      pk32(m, w, in, 0, s0);
      pk32(m, w, in, 1, s1);
      if (in->op == OP_V_PK_FMA_F32) pk32(m, w, in, 2, s2);
      LANES {
        u32 r[2];
        for (int h = 0; h < 2; h++) {
          float a = bf((u32)(s0[l] >> 32 * h)), b = bf((u32)(s1[l] >> 32 * h)),
                q = in->op == OP_V_PK_ADD_F32   ? a + b
                    : in->op == OP_V_PK_MUL_F32 ? a * b
                                                : fmaf(a, b, bf((u32)(s2[l] >> 32 * h)));
          if (in->clamp) q = (float)clamp01(q);
          r[h] = fb(q);
        }
        d[l] = r[0] | (u64)r[1] << 32;
      }
      Insn t = *in;
      t.clamp = 0;
      put(m, w, &t, T_u64, d);
    } break;
    case OP_V_PK_MOV_B32: {  // op_sel picks the half of each source, op_sel_hi is not used
      Insn q = *in;
      q.opselhi = q.opsel;
      q.neg = q.neghi = 0;
      pk32(m, w, &q, 0, s0);
      pk32(m, w, &q, 1, s1);
      LANES d[l] = (u32)s0[l] | s1[l] >> 32 << 32;
      put(m, w, in, T_u64, d);
    } break;
    case OP_V_FMA_MIX_F32:
    case OP_V_MAD_MIX_F32:
      LANES d[l] = fb(fmaf(mixsrc(m, w, in, 0, l), mixsrc(m, w, in, 1, l), mixsrc(m, w, in, 2, l)));
      put(m, w, in, T_f32, d);
      break;
    case OP_V_FMA_MIXLO_F16:
    case OP_V_MAD_MIXLO_F16:
    case OP_V_FMA_MIXHI_F16:
    case OP_V_MAD_MIXHI_F16: {
      Insn t = *in;
      t.keep16 = 1;
      t.opsel = in->op == OP_V_FMA_MIXHI_F16 || in->op == OP_V_MAD_MIXHI_F16 ? 8 : 0;
      LANES d[l] = d2h((double)mixsrc(m, w, in, 0, l) * mixsrc(m, w, in, 1, l) + mixsrc(m, w, in, 2, l));
      put(m, w, &t, T_f16, d);
    } break;
    case OP_V_MFMA: mfma(m, w, in); break;
    case OP_V_WMMA: wmma(m, w, in); break;
    default: return -1;
  }
  return 0;
}

#endif
