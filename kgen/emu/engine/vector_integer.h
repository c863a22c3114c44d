// Vector instructions on integers: moves, bit operations, shifts, arithmetic.
// Returns 0, or -1 when the operation is not here.
#ifndef KGEN_EMU_VECTOR_INTEGER_H
#define KGEN_EMU_VECTOR_INTEGER_H
#include "packed.h"

static int valu_integer(Machine *m, Wave *w, const Insn *in) {
  u64 s0[64], s1[64], s2[64], d[64];
  switch (in->op) {
    // ---- moves, bit operations
    case OP_V_NOP:
    case OP_V_PIPEFLUSH: break;
    case OP_V_MOV_B32: OP1(u32, u32, a);
    case OP_V_MOV_B16: OP1(u16, u16, a);
    case OP_V_MOV_B64: OP1(u64, u64, a);
    case OP_V_NOT_B32: OP1(u32, u32, ~a);
    case OP_V_NOT_B16: OP1(u16, u16, ~a);
    case OP_V_BFREV_B32: OP1(u32, u32, brev32(a));
    case OP_V_CLZ_I32_U32:
    case OP_V_FFBH_U32: OP1(u32, u32, clz32(a));
    case OP_V_CTZ_I32_B32:
    case OP_V_FFBL_B32: OP1(u32, u32, ctz32(a));
    case OP_V_CLS_I32:
    case OP_V_FFBH_I32: OP1(u32, i32, cls32(a));
    case OP_V_PRNG_B32: OP1(u32, u32, (a << 1) ^ (a >> 31 ? 197u : 0u));
    case OP_V_SAT_PK_U8_I16: OP1(u16, u32, (u16)MIN(MAX((i16)a, 0), 255) | (u16)(MIN(MAX((i16)(a >> 16), 0), 255) << 8));
    case OP_V_SWAP_B32:
      LANES if (w->wmask >> l & 1) {
        u32 *p = &w->v[in->dst - 256][l], *q = &w->v[in->src[0] - 256][l], t = *p;
        *p = *q;
        *q = t;
      }
      break;
    case OP_V_SWAP_B16:
      LANES if (w->wmask >> l & 1) {
        u32 *p = &w->v[in->dst - 256][l], *q = &w->v[in->src[0] - 256][l];
        int sp = in->opsel & 8 ? 16 : 0, sq = in->opsel & 1 ? 16 : 0;
        u32 x = *p >> sp & 0xffff, y = *q >> sq & 0xffff;
        *p = (*p & ~(0xffffu << sp)) | y << sp;
        *q = (*q & ~(0xffffu << sq)) | x << sq;
      }
      break;
    // registers indexed by M0
    case OP_V_MOVRELS_B32:
    case OP_V_MOVRELD_B32:
    case OP_V_MOVRELSD_B32:
    case OP_V_MOVRELSD_2_B32: {
      u32 m0 = w->s[125], two = in->op == OP_V_MOVRELSD_2_B32;
      Insn q = *in;
      if (in->op != OP_V_MOVRELD_B32) q.src[0] += two ? m0 & 255 : m0;
      if (in->op != OP_V_MOVRELS_B32) q.dst += two ? m0 >> 16 & 255 : m0;
      if (q.src[0] > 511 || q.dst > 511) {
        fail(m, E_MODIFIER, 0, m0, 3);
        break;
      }
      fetch(m, w, &q, 0, T_u32, d);
      put(m, w, &q, T_u32, d);
    } break;
    case OP_V_ACCVGPR_READ:
    case OP_V_ACCVGPR_WRITE:
    case OP_V_ACCVGPR_MOV_B32: OP1(u32, u32, a);
    case OP_V_AND_B32: OP2(u32, u32, u32, a & b);
    case OP_V_OR_B32: OP2(u32, u32, u32, a | b);
    case OP_V_XOR_B32: OP2(u32, u32, u32, a ^ b);
    case OP_V_XNOR_B32: OP2(u32, u32, u32, ~(a ^ b));
    case OP_V_AND_B16: OP2(u16, u16, u16, a & b);
    case OP_V_OR_B16: OP2(u16, u16, u16, a | b);
    case OP_V_XOR_B16: OP2(u16, u16, u16, a ^ b);
    case OP_V_AND_OR_B32: OP3(u32, u32, u32, u32, (a & b) | c);
    case OP_V_OR3_B32: OP3(u32, u32, u32, u32, a | b | c);
    case OP_V_XOR3_B32: OP3(u32, u32, u32, u32, a ^ b ^ c);
    case OP_V_BFI_B32: OP3(u32, u32, u32, u32, (a & b) | (~a & c));
    case OP_V_BFM_B32: OP2(u32, u32, u32, ((1u << (a & 31)) - 1) << (b & 31));
    case OP_V_BFE_U32: OP3(u32, u32, u32, u32, bfe_u(a, b, c));
    case OP_V_BFE_I32: OP3(i32, i32, u32, u32, bfe_i(a, b, c));
    case OP_V_BCNT_U32_B32: OP2(u32, u32, u32, (u32)__builtin_popcount(a) + b);
    case OP_V_MBCNT_LO_U32_B32: OP2(u32, u32, u32, (u32)__builtin_popcount(a & (l >= 32 ? ~0u : (1u << l) - 1)) + b);
    case OP_V_MBCNT_HI_U32_B32: OP2(u32, u32, u32, (u32)__builtin_popcount(a & (l <= 32 ? 0u : (1u << (l - 32)) - 1)) + b);
    case OP_V_ALIGNBIT_B32: OP3(u32, u32, u32, u32, (u32)((((u64)a << 32) | b) >> (c & 31)));
    case OP_V_ALIGNBYTE_B32: OP3(u32, u32, u32, u32, (u32)((((u64)a << 32) | b) >> 8 * (c & 3)));
    case OP_V_PERM_B32: OP3(u32, u32, u32, u32, perm(a, b, c));
    case OP_V_PACK_B32_F16: {
      F(0, f16);
      F(1, f16);
      LANES d[l] = (u16)s0[l] | s1[l] << 16;
      put(m, w, in, T_u32, d);
    } break;
    case OP_V_BITOP3_B32:
    case OP_V_BITOP3_B16: {
      u32 tt = (u32)in->omod << 6 | (u32)in->abs << 3 | in->neg;
      Insn q = *in;
      q.omod = q.abs = q.neg = 0;
      int t = in->op == OP_V_BITOP3_B16 ? T_u16 : T_u32;
      fetch(m, w, &q, 0, t, s0);
      fetch(m, w, &q, 1, t, s1);
      fetch(m, w, &q, 2, t, s2);
      LANES {
        u32 r = 0, x = (u32)s0[l], y = (u32)s1[l], z = (u32)s2[l];
        for (int i = 0; i < 8; i++)
          if (tt >> i & 1) r |= (i & 4 ? x : ~x) & (i & 2 ? y : ~y) & (i & 1 ? z : ~z);
        d[l] = r;
      }
      put(m, w, &q, t, d);
    } break;
    case OP_V_CNDMASK_B32: {
      u64 c = carry_in(m, w, in);
      OP2(u32, f32, f32, (c >> l & 1) ? fb(b) : fb(a));
    }
    case OP_V_CNDMASK_B16: {
      u64 c = carry_in(m, w, in);
      F(0, f16);
      F(1, f16);
      LANES d[l] = c >> l & 1 ? s1[l] : s0[l];
      put(m, w, in, T_u16, d);
    } break;
    // ---- shifts
    case OP_V_LSHLREV_B32: OP2(u32, u32, u32, b << (a & 31));
    case OP_V_LSHRREV_B32: OP2(u32, u32, u32, b >> (a & 31));
    case OP_V_ASHRREV_I32: OP2(i32, u32, i32, b >> (a & 31));
    case OP_V_LSHLREV_B16: OP2(u16, u16, u16, b << (a & 15));
    case OP_V_LSHRREV_B16: OP2(u16, u16, u16, b >> (a & 15));
    case OP_V_ASHRREV_I16: OP2(i16, u16, i16, b >> (a & 15));
    case OP_V_LSHLREV_B64: OP2(u64, u32, u64, b << (a & 63));
    case OP_V_LSHRREV_B64: OP2(u64, u32, u64, b >> (a & 63));
    case OP_V_ASHRREV_I64: OP2(i64, u32, i64, b >> (a & 63));
    case OP_V_LSHL_ADD_U32: OP3(u32, u32, u32, u32, (a << (b & 31)) + c);
    case OP_V_ADD_LSHL_U32: OP3(u32, u32, u32, u32, (a + b) << (c & 31));
    case OP_V_LSHL_OR_B32: OP3(u32, u32, u32, u32, (a << (b & 31)) | c);
    case OP_V_LSHL_ADD_U64: OP3(u64, u64, u32, u64, (a << (b & 7)) + c);
    case OP_V_ASHR_PK_I8_I32:
      OP3(u16, i32, i32, u32, (u8)MIN(MAX(a >> (c & 31), -128), 127) | (u16)((u8)MIN(MAX(b >> (c & 31), -128), 127) << 8));
    case OP_V_ASHR_PK_U8_I32:
      OP3(u16, i32, i32, u32, (u8)MIN(MAX(a >> (c & 31), 0), 255) | (u16)((u8)MIN(MAX(b >> (c & 31), 0), 255) << 8));
    // ---- integer arithmetic
    case OP_V_ADD_NC_U32:
    case OP_V_ADD_U32: OP2(u32, u32, u32, in->clamp && a + b < a ? ~0u : a + b);
    case OP_V_SUB_NC_U32:
    case OP_V_SUB_U32: OP2(u32, u32, u32, in->clamp && a < b ? 0u : a - b);
    case OP_V_SUBREV_NC_U32:
    case OP_V_SUBREV_U32: OP2(u32, u32, u32, in->clamp && b < a ? 0u : b - a);
    case OP_V_ADD_NC_I32:
    case OP_V_ADD_I32: OP2(u32, i32, i32, in->clamp ? sat_i32((i64)a + b) : (u32)a + (u32)b);
    case OP_V_SUB_NC_I32:
    case OP_V_SUB_I32: OP2(u32, i32, i32, in->clamp ? sat_i32((i64)a - b) : (u32)a - (u32)b);
    case OP_V_ADD_NC_U16:
    case OP_V_ADD_U16: OP2(u16, u16, u16, in->clamp ? MIN((u32)a + b, 65535u) : (u32)a + b);
    case OP_V_SUB_NC_U16:
    case OP_V_SUB_U16: OP2(u16, u16, u16, in->clamp && a < b ? 0 : (u32)a - b);
    case OP_V_SUBREV_U16: OP2(u16, u16, u16, in->clamp && b < a ? 0 : (u32)b - a);
    case OP_V_ADD_NC_I16:
    case OP_V_ADD_I16: OP2(i16, i16, i16, in->clamp ? MIN(MAX(a + b, -32768), 32767) : a + b);
    case OP_V_SUB_NC_I16:
    case OP_V_SUB_I16: OP2(i16, i16, i16, in->clamp ? MIN(MAX(a - b, -32768), 32767) : a - b);
    case OP_V_MUL_LO_U16: OP2(u16, u16, u16, (u32)a * b);
    case OP_V_MUL_LO_U32: OP2(u32, u32, u32, a * b);
    case OP_V_MUL_HI_U32: OP2(u32, u32, u32, (u32)(((u64)a * b) >> 32));
    case OP_V_MUL_HI_I32: OP2(u32, i32, i32, (u32)(((i64)a * b) >> 32));
#define S24(x) ((i32)((u32)(x) << 8) >> 8)
    case OP_V_MUL_I32_I24: OP2(u32, i32, i32, (u32)((i64)S24(a) * S24(b)));
    case OP_V_MUL_HI_I32_I24: OP2(u32, i32, i32, (u32)(((i64)S24(a) * S24(b)) >> 32));
    case OP_V_MUL_U32_U24: OP2(u32, u32, u32, (a & 0xffffff) * (b & 0xffffff));
    case OP_V_MUL_HI_U32_U24: OP2(u32, u32, u32, (u32)(((u64)(a & 0xffffff) * (b & 0xffffff)) >> 32));
    case OP_V_MAD_I32_I24: OP3(u32, i32, i32, i32, in->clamp ? sat_i32((i64)S24(a) * S24(b) + c) : (u32)((i64)S24(a) * S24(b) + c));
    case OP_V_MAD_U32_U24:
      OP3(u32, u32, u32, u32,
          in->clamp ? (u32)MIN((u64)(a & 0xffffff) * (b & 0xffffff) + c, 0xffffffffull) : (a & 0xffffff) * (b & 0xffffff) + c);
    case OP_V_MAD_U32_U16: OP3(u32, u16, u16, u32, (u32)a * b + c);
    case OP_V_MAD_I32_I16: OP3(u32, i16, i16, u32, (u32)((i32)a * b) + c);
    case OP_V_MAD_U16:
    case OP_V_MAD_LEGACY_U16: OP3(u16, u16, u16, u16, (u32)a * b + c);
    case OP_V_MAD_I16:
    case OP_V_MAD_LEGACY_I16: OP3(i16, i16, i16, i16, (i32)a * b + c);
    case OP_V_ADD3_U32: OP3(u32, u32, u32, u32, a + b + c);
    case OP_V_XAD_U32: OP3(u32, u32, u32, u32, (a ^ b) + c);
    case OP_V_MIN_I32: OP2(i32, i32, i32, MIN(a, b));
    case OP_V_MAX_I32: OP2(i32, i32, i32, MAX(a, b));
    case OP_V_MIN_U32: OP2(u32, u32, u32, MIN(a, b));
    case OP_V_MAX_U32: OP2(u32, u32, u32, MAX(a, b));
    case OP_V_MIN_I16: OP2(i16, i16, i16, MIN(a, b));
    case OP_V_MAX_I16: OP2(i16, i16, i16, MAX(a, b));
    case OP_V_MIN_U16: OP2(u16, u16, u16, MIN(a, b));
    case OP_V_MAX_U16: OP2(u16, u16, u16, MAX(a, b));
    case OP_V_MIN3_I32: OP3(i32, i32, i32, i32, MIN(MIN(a, b), c));
    case OP_V_MAX3_I32: OP3(i32, i32, i32, i32, MAX(MAX(a, b), c));
    case OP_V_MED3_I32: OP3(i32, i32, i32, i32, MED3(a, b, c));
    case OP_V_MIN3_U32: OP3(u32, u32, u32, u32, MIN(MIN(a, b), c));
    case OP_V_MAX3_U32: OP3(u32, u32, u32, u32, MAX(MAX(a, b), c));
    case OP_V_MED3_U32: OP3(u32, u32, u32, u32, MED3(a, b, c));
    case OP_V_MIN3_I16: OP3(i16, i16, i16, i16, MIN(MIN(a, b), c));
    case OP_V_MAX3_I16: OP3(i16, i16, i16, i16, MAX(MAX(a, b), c));
    case OP_V_MED3_I16: OP3(i16, i16, i16, i16, MED3(a, b, c));
    case OP_V_MIN3_U16: OP3(u16, u16, u16, u16, MIN(MIN(a, b), c));
    case OP_V_MAX3_U16: OP3(u16, u16, u16, u16, MAX(MAX(a, b), c));
    case OP_V_MED3_U16: OP3(u16, u16, u16, u16, MED3(a, b, c));
    case OP_V_MAXMIN_I32: OP3(i32, i32, i32, i32, MIN(MAX(a, b), c));
    case OP_V_MINMAX_I32: OP3(i32, i32, i32, i32, MAX(MIN(a, b), c));
    case OP_V_MAXMIN_U32: OP3(u32, u32, u32, u32, MIN(MAX(a, b), c));
    case OP_V_MINMAX_U32: OP3(u32, u32, u32, u32, MAX(MIN(a, b), c));
    case OP_V_SAD_U8: OP3(u32, u32, u32, u32, sad8(a, b, c, 0));
    case OP_V_MSAD_U8: OP3(u32, u32, u32, u32, sad8(a, b, c, 1));
    case OP_V_SAD_HI_U8: OP3(u32, u32, u32, u32, (sad8(a, b, 0, 0) << 16) + c);
    case OP_V_SAD_U16:
      OP3(u32, u32, u32, u32,
          (u32)(MAX(a & 0xffff, b & 0xffff) - MIN(a & 0xffff, b & 0xffff)) + (MAX(a >> 16, b >> 16) - MIN(a >> 16, b >> 16)) + c);
    case OP_V_SAD_U32: OP3(u32, u32, u32, u32, (MAX(a, b) - MIN(a, b)) + c);
    case OP_V_CVT_I32_I16: OP1(i32, i16, a);
    case OP_V_CVT_U32_U16: OP1(u32, u16, a);
    case OP_V_ADD_CO_U32:
    case OP_V_SUB_CO_U32:
    case OP_V_SUBREV_CO_U32:
    case OP_V_ADD_CO_CI_U32:
    case OP_V_ADDC_CO_U32:
    case OP_V_SUB_CO_CI_U32:
    case OP_V_SUBB_CO_U32:
    case OP_V_SUBREV_CO_CI_U32:
    case OP_V_SUBBREV_CO_U32: {
      int ci = in->nsrc == 3, sub = in->op != OP_V_ADD_CO_U32 && in->op != OP_V_ADD_CO_CI_U32 && in->op != OP_V_ADDC_CO_U32;
      int rev = in->op == OP_V_SUBREV_CO_U32 || in->op == OP_V_SUBREV_CO_CI_U32 || in->op == OP_V_SUBBREV_CO_U32;
      u64 cin = ci ? carry_in(m, w, in) : 0, co = 0;
      F(0, u32);
      F(1, u32);
      LANES {
        u64 x = rev ? s1[l] : s0[l], y = rev ? s0[l] : s1[l], c = cin >> l & 1, r = sub ? x - y - c : x + y + c;
        int o = sub ? y + c > x : r >> 32 != 0;
        d[l] = (u32)r;
        if (in->clamp && o) d[l] = sub ? 0 : 0xffffffffu;
        co |= (u64)o << l;
      }
      co &= w->wmask;
      put(m, w, in, T_u32, d);
      wmask(m, w, in->sdst, co);
    } break;
    case OP_V_MAD_U64_U32:
    case OP_V_MAD_CO_U64_U32:
    case OP_V_MAD_I64_I32:
    case OP_V_MAD_CO_I64_I32: {
      int sg = in->op == OP_V_MAD_I64_I32 || in->op == OP_V_MAD_CO_I64_I32;
      u64 co = 0;
      F(0, u32);
      F(1, u32);
      fetch(m, w, in, 2, sg ? T_i64 : T_u64, s2);
      LANES {
        if (sg) {
          __int128 r = (__int128)((i64)(i32)s0[l] * (i32)s1[l]) + (i64)s2[l];
          co |= (u64)(r >> 64 & 1) << l;
          d[l] = (u64)r;
        }  // carry out is bit 64
        else {
          u64 r;
          if (__builtin_add_overflow(s0[l] * s1[l], s2[l], &r)) co |= 1ull << l;
          d[l] = r;
        }
      }
      co &= w->wmask;
      put(m, w, in, T_u64, d);
      wmask(m, w, in->sdst, co);
    } break;
    default: return -1;
  }
  return 0;
}

#endif
