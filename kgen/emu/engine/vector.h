// Vector ALU instructions, any operand form and modifier.
#include "arithmetic.h"
#include "packed.h"

// Execute the vector instruction `in`.  Returns 0, or -1 when the operation is not known.
static int valu(Machine *m, Wave *w, const Insn *in) {
  u64 s0[64], s1[64], s2[64], d[64];
  w->wmask = execm(w);
  switch (in->op) {
    // ---- moves, bit operations
    case OP_V_NOP: case OP_V_PIPEFLUSH: break;
    case OP_V_MOV_B32: OP1(u32, u32, a);
    case OP_V_MOV_B16: OP1(u16, u16, a);
    case OP_V_MOV_B64: OP1(u64, u64, a);
    case OP_V_NOT_B32: OP1(u32, u32, ~a);
    case OP_V_NOT_B16: OP1(u16, u16, ~a);
    case OP_V_BFREV_B32: OP1(u32, u32, brev32(a));
    case OP_V_CLZ_I32_U32: case OP_V_FFBH_U32: OP1(u32, u32, clz32(a));
    case OP_V_CTZ_I32_B32: case OP_V_FFBL_B32: OP1(u32, u32, ctz32(a));
    case OP_V_CLS_I32: case OP_V_FFBH_I32: OP1(u32, i32, cls32(a));
    case OP_V_PRNG_B32: OP1(u32, u32, (a << 1) ^ (a >> 31 ? 197u : 0u));
    case OP_V_SAT_PK_U8_I16: OP1(u16, u32, (u16)MIN(MAX((i16)a, 0), 255) | (u16)(MIN(MAX((i16)(a >> 16), 0), 255) << 8));
    case OP_V_SWAP_B32: LANES if (w->wmask >> l & 1) { u32 *p = &w->v[in->dst - 256][l], *q = &w->v[in->src[0] - 256][l], t = *p; *p = *q; *q = t; } break;
    case OP_V_SWAP_B16: LANES if (w->wmask >> l & 1) {
      u32 *p = &w->v[in->dst - 256][l], *q = &w->v[in->src[0] - 256][l]; int sp = in->opsel & 8 ? 16 : 0, sq = in->opsel & 1 ? 16 : 0;
      u32 x = *p >> sp & 0xffff, y = *q >> sq & 0xffff; *p = (*p & ~(0xffffu << sp)) | y << sp; *q = (*q & ~(0xffffu << sq)) | x << sq; } break;
    // registers indexed by M0
    case OP_V_MOVRELS_B32: case OP_V_MOVRELD_B32: case OP_V_MOVRELSD_B32: case OP_V_MOVRELSD_2_B32: {
      u32 m0 = w->s[125], two = in->op == OP_V_MOVRELSD_2_B32; Insn q = *in;
      if (in->op != OP_V_MOVRELD_B32) q.src[0] += two ? m0 & 255 : m0;
      if (in->op != OP_V_MOVRELS_B32) q.dst += two ? m0 >> 16 & 255 : m0;
      if (q.src[0] > 511 || q.dst > 511) { fail(m, E_MODIFIER, 0, m0, 3); break; }
      fetch(m, w, &q, 0, T_u32, d); put(m, w, &q, T_u32, d); } break;
    case OP_V_ACCVGPR_READ: case OP_V_ACCVGPR_WRITE: case OP_V_ACCVGPR_MOV_B32: OP1(u32, u32, a);
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
    case OP_V_PACK_B32_F16: { F(0, f16); F(1, f16); LANES d[l] = (u16)s0[l] | s1[l] << 16; put(m, w, in, T_u32, d); } break;
    case OP_V_BITOP3_B32: case OP_V_BITOP3_B16: {
      u32 tt = (u32)in->omod << 6 | (u32)in->abs << 3 | in->neg; Insn q = *in; q.omod = q.abs = q.neg = 0;
      int t = in->op == OP_V_BITOP3_B16 ? T_u16 : T_u32;
      fetch(m, w, &q, 0, t, s0); fetch(m, w, &q, 1, t, s1); fetch(m, w, &q, 2, t, s2);
      LANES { u32 r = 0, x = (u32)s0[l], y = (u32)s1[l], z = (u32)s2[l]; for (int i = 0; i < 8; i++) if (tt >> i & 1) r |= (i & 4 ? x : ~x) & (i & 2 ? y : ~y) & (i & 1 ? z : ~z); d[l] = r; }
      put(m, w, &q, t, d); } break;
    case OP_V_CNDMASK_B32: { u64 c = carry_in(m, w, in); OP2(u32, f32, f32, (c >> l & 1) ? fb(b) : fb(a)); }
    case OP_V_CNDMASK_B16: { u64 c = carry_in(m, w, in); F(0, f16); F(1, f16); LANES d[l] = c >> l & 1 ? s1[l] : s0[l]; put(m, w, in, T_u16, d); } break;
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
    case OP_V_ASHR_PK_I8_I32: OP3(u16, i32, i32, u32, (u8)MIN(MAX(a >> (c & 31), -128), 127) | (u16)((u8)MIN(MAX(b >> (c & 31), -128), 127) << 8));
    case OP_V_ASHR_PK_U8_I32: OP3(u16, i32, i32, u32, (u8)MIN(MAX(a >> (c & 31), 0), 255) | (u16)((u8)MIN(MAX(b >> (c & 31), 0), 255) << 8));
    // ---- integer arithmetic
    case OP_V_ADD_NC_U32: case OP_V_ADD_U32: OP2(u32, u32, u32, in->clamp && a + b < a ? ~0u : a + b);
    case OP_V_SUB_NC_U32: case OP_V_SUB_U32: OP2(u32, u32, u32, in->clamp && a < b ? 0u : a - b);
    case OP_V_SUBREV_NC_U32: case OP_V_SUBREV_U32: OP2(u32, u32, u32, in->clamp && b < a ? 0u : b - a);
    case OP_V_ADD_NC_I32: case OP_V_ADD_I32: OP2(u32, i32, i32, in->clamp ? sat_i32((i64)a + b) : (u32)a + (u32)b);
    case OP_V_SUB_NC_I32: case OP_V_SUB_I32: OP2(u32, i32, i32, in->clamp ? sat_i32((i64)a - b) : (u32)a - (u32)b);
    case OP_V_ADD_NC_U16: case OP_V_ADD_U16: OP2(u16, u16, u16, in->clamp ? MIN((u32)a + b, 65535u) : (u32)a + b);
    case OP_V_SUB_NC_U16: case OP_V_SUB_U16: OP2(u16, u16, u16, in->clamp && a < b ? 0 : (u32)a - b);
    case OP_V_SUBREV_U16: OP2(u16, u16, u16, in->clamp && b < a ? 0 : (u32)b - a);
    case OP_V_ADD_NC_I16: case OP_V_ADD_I16: OP2(i16, i16, i16, in->clamp ? MIN(MAX(a + b, -32768), 32767) : a + b);
    case OP_V_SUB_NC_I16: case OP_V_SUB_I16: OP2(i16, i16, i16, in->clamp ? MIN(MAX(a - b, -32768), 32767) : a - b);
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
    case OP_V_MAD_U32_U24: OP3(u32, u32, u32, u32, in->clamp ? (u32)MIN((u64)(a & 0xffffff) * (b & 0xffffff) + c, 0xffffffffull) : (a & 0xffffff) * (b & 0xffffff) + c);
    case OP_V_MAD_U32_U16: OP3(u32, u16, u16, u32, (u32)a * b + c);
    case OP_V_MAD_I32_I16: OP3(u32, i16, i16, u32, (u32)((i32)a * b) + c);
    case OP_V_MAD_U16: case OP_V_MAD_LEGACY_U16: OP3(u16, u16, u16, u16, (u32)a * b + c);
    case OP_V_MAD_I16: case OP_V_MAD_LEGACY_I16: OP3(i16, i16, i16, i16, (i32)a * b + c);
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
    case OP_V_SAD_U16: OP3(u32, u32, u32, u32, (u32)(MAX(a & 0xffff, b & 0xffff) - MIN(a & 0xffff, b & 0xffff)) + (MAX(a >> 16, b >> 16) - MIN(a >> 16, b >> 16)) + c);
    case OP_V_SAD_U32: OP3(u32, u32, u32, u32, (MAX(a, b) - MIN(a, b)) + c);
    case OP_V_CVT_I32_I16: OP1(i32, i16, a);
    case OP_V_CVT_U32_U16: OP1(u32, u16, a);
    case OP_V_ADD_CO_U32: case OP_V_SUB_CO_U32: case OP_V_SUBREV_CO_U32:
    case OP_V_ADD_CO_CI_U32: case OP_V_ADDC_CO_U32: case OP_V_SUB_CO_CI_U32: case OP_V_SUBB_CO_U32: case OP_V_SUBREV_CO_CI_U32: case OP_V_SUBBREV_CO_U32: {
      int ci = in->nsrc == 3, sub = in->op != OP_V_ADD_CO_U32 && in->op != OP_V_ADD_CO_CI_U32 && in->op != OP_V_ADDC_CO_U32;
      int rev = in->op == OP_V_SUBREV_CO_U32 || in->op == OP_V_SUBREV_CO_CI_U32 || in->op == OP_V_SUBBREV_CO_U32;
      u64 cin = ci ? carry_in(m, w, in) : 0, co = 0;
      F(0, u32); F(1, u32);
      LANES {
        u64 x = rev ? s1[l] : s0[l], y = rev ? s0[l] : s1[l], c = cin >> l & 1, r = sub ? x - y - c : x + y + c;
        int o = sub ? y + c > x : r >> 32 != 0;
        d[l] = (u32)r; if (in->clamp && o) d[l] = sub ? 0 : 0xffffffffu;
        co |= (u64)o << l;
      }
      co &= w->wmask; put(m, w, in, T_u32, d); wmask(m, w, in->sdst, co); } break;
    case OP_V_MAD_U64_U32: case OP_V_MAD_CO_U64_U32: case OP_V_MAD_I64_I32: case OP_V_MAD_CO_I64_I32: {
      int sg = in->op == OP_V_MAD_I64_I32 || in->op == OP_V_MAD_CO_I64_I32; u64 co = 0;
      F(0, u32); F(1, u32); fetch(m, w, in, 2, sg ? T_i64 : T_u64, s2);
      LANES {
        if (sg) { __int128 r = (__int128)((i64)(i32)s0[l] * (i32)s1[l]) + (i64)s2[l]; co |= (u64)(r >> 64 & 1) << l; d[l] = (u64)r; }   // carry out is bit 64
        else { u64 r; if (__builtin_add_overflow(s0[l] * s1[l], s2[l], &r)) co |= 1ull << l; d[l] = r; }
      }
      co &= w->wmask; put(m, w, in, T_u64, d); wmask(m, w, in->sdst, co); } break;
    // ---- f32
    case OP_V_ADD_F32: OP2(f32, f32, f32, a + b);
    case OP_V_SUB_F32: OP2(f32, f32, f32, a - b);
    case OP_V_SUBREV_F32: OP2(f32, f32, f32, b - a);
    case OP_V_MUL_F32: OP2(f32, f32, f32, a * b);
    case OP_V_MUL_DX9_ZERO_F32: case OP_V_MUL_LEGACY_F32: OP2(f32, f32, f32, (float)dx9(a, b));
    case OP_V_FMA_DX9_ZERO_F32: OP3(f32, f32, f32, f32, a == 0 || b == 0 ? c : fmaf(a, b, c));
    case OP_V_FMAC_DX9_ZERO_F32: OPA(f32, f32, f32, a == 0 || b == 0 ? c : fmaf(a, b, c));
    case OP_V_FMA_F32: OP3(f32, f32, f32, f32, fmaf(a, b, c));
    case OP_V_FMAC_F32: OPA(f32, f32, f32, fmaf(a, b, c));
    case OP_V_FMAAK_F32: OP2(f32, f32, f32, fmaf(a, b, bf(in->lit)));
    case OP_V_FMAMK_F32: OP2(f32, f32, f32, fmaf(a, bf(in->lit), b));
    case OP_V_MIN_F32: case OP_V_MIN_NUM_F32: OP2(f32, f32, f32, (float)fmin_(a, b));
    case OP_V_MAX_F32: case OP_V_MAX_NUM_F32: OP2(f32, f32, f32, (float)fmax_(a, b));
    case OP_V_MINIMUM_F32: OP2(f32, f32, f32, (float)fminp(a, b));
    case OP_V_MAXIMUM_F32: OP2(f32, f32, f32, (float)fmaxp(a, b));
    case OP_V_MIN3_F32: case OP_V_MIN3_NUM_F32: OP3(f32, f32, f32, f32, (float)fmin_(fmin_(a, b), c));
    case OP_V_MAX3_F32: case OP_V_MAX3_NUM_F32: OP3(f32, f32, f32, f32, (float)fmax_(fmax_(a, b), c));
    case OP_V_MINIMUM3_F32: OP3(f32, f32, f32, f32, (float)fminp(fminp(a, b), c));
    case OP_V_MAXIMUM3_F32: OP3(f32, f32, f32, f32, (float)fmaxp(fmaxp(a, b), c));
    case OP_V_MED3_F32: case OP_V_MED3_NUM_F32: OP3(f32, f32, f32, f32, (float)fmed3(a, b, c));
    case OP_V_MINMAX_F32: case OP_V_MINMAX_NUM_F32: OP3(f32, f32, f32, f32, (float)fmax_(fmin_(a, b), c));
    case OP_V_MAXMIN_F32: case OP_V_MAXMIN_NUM_F32: OP3(f32, f32, f32, f32, (float)fmin_(fmax_(a, b), c));
    case OP_V_MINIMUMMAXIMUM_F32: OP3(f32, f32, f32, f32, (float)fmaxp(fminp(a, b), c));
    case OP_V_MAXIMUMMINIMUM_F32: OP3(f32, f32, f32, f32, (float)fminp(fmaxp(a, b), c));
    case OP_V_TRUNC_F32: OP1(f32, f32, truncf(a));
    case OP_V_CEIL_F32: OP1(f32, f32, ceilf(a));
    case OP_V_FLOOR_F32: OP1(f32, f32, floorf(a));
    case OP_V_RNDNE_F32: OP1(f32, f32, nearbyintf(a));
    case OP_V_FRACT_F32: OP1(f32, f32, (float)fracf_(a, 0.999999940395355224609375));
    case OP_V_EXP_F32: case OP_V_EXP_LEGACY_F32: OP1(f32, f32, exp2f(a));
    case OP_V_LOG_F32: case OP_V_LOG_LEGACY_F32: OP1(f32, f32, log2f(a));
    case OP_V_RCP_F32: case OP_V_RCP_IFLAG_F32: OP1(f32, f32, 1.0f / a);
    case OP_V_RSQ_F32: OP1(f32, f32, (float)(1.0 / sqrt((double)a)));
    case OP_V_SQRT_F32: OP1(f32, f32, sqrtf(a));
    case OP_V_SIN_F32: OP1(f32, f32, (float)sin(6.283185307179586 * ((double)a - floor(a))));
    case OP_V_COS_F32: OP1(f32, f32, (float)cos(6.283185307179586 * ((double)a - floor(a))));
    case OP_V_LDEXP_F32: OP2(f32, f32, i32, (float)ldexp((double)a, MIN(MAX(b, -2000), 2000)));
    case OP_V_FREXP_EXP_I32_F32: OP1(i32, f32, ({ int e = 0; if (isfinite(a) && a != 0) frexp(a, &e); e; }));
    case OP_V_FREXP_MANT_F32: OP1(f32, f32, ({ int e; isfinite(a) ? (float)frexp(a, &e) : a; }));
    case OP_V_DIV_FIXUP_F32: OP3(f32, f32, f32, f32, div_fixup32(a, b, c));
    case OP_V_DIV_FMAS_F32: { u64 vcc = rmask(m, w, in, 106); OP3(f32, f32, f32, f32, (vcc >> l & 1) ? (float)ldexp((double)fmaf(a, b, c), expo32(c) > 127 ? 64 : -64) : fmaf(a, b, c)); }
    case OP_V_DIV_SCALE_F32: { u64 vcc = 0; F(0, f32); F(1, f32); F(2, f32); LANES { int v; d[l] = fb(div_scale32(bf((u32)s0[l]), bf((u32)s1[l]), bf((u32)s2[l]), &v)); vcc |= (u64)v << l; }
      vcc &= w->wmask; put(m, w, in, T_f32, d); wmask(m, w, in->sdst, vcc); } break;
    // ---- f64
    case OP_V_ADD_F64: OP2(f64, f64, f64, a + b);
    case OP_V_MUL_F64: OP2(f64, f64, f64, a * b);
    case OP_V_FMA_F64: OP3(f64, f64, f64, f64, fma(a, b, c));
    case OP_V_FMAC_F64: OPA(f64, f64, f64, fma(a, b, c));
    case OP_V_MIN_F64: case OP_V_MIN_NUM_F64: OP2(f64, f64, f64, fmin_(a, b));
    case OP_V_MAX_F64: case OP_V_MAX_NUM_F64: OP2(f64, f64, f64, fmax_(a, b));
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
    case OP_V_FREXP_EXP_I32_F64: OP1(i32, f64, ({ int e = 0; if (isfinite(a) && a != 0) frexp(a, &e); e; }));
    case OP_V_FREXP_MANT_F64: OP1(f64, f64, ({ int e; isfinite(a) ? frexp(a, &e) : a; }));
    case OP_V_DIV_FIXUP_F64: OP3(f64, f64, f64, f64, div_fixup64(a, b, c));
    case OP_V_DIV_FMAS_F64: { u64 vcc = rmask(m, w, in, 106); OP3(f64, f64, f64, f64, (vcc >> l & 1) ? ldexp(fma(a, b, c), expo64(c) > 1023 ? 128 : -128) : fma(a, b, c)); }
    case OP_V_DIV_SCALE_F64: { u64 vcc = 0; F(0, f64); F(1, f64); F(2, f64); LANES { int v; d[l] = db(div_scale64(bd(s0[l]), bd(s1[l]), bd(s2[l]), &v)); vcc |= (u64)v << l; }
      vcc &= w->wmask; put(m, w, in, T_f64, d); wmask(m, w, in->sdst, vcc); } break;
    // ---- f16 (computed in double, rounded once)
    case OP_V_ADD_F16: OP2(f16, f16, f16, a + b);
    case OP_V_SUB_F16: OP2(f16, f16, f16, a - b);
    case OP_V_SUBREV_F16: OP2(f16, f16, f16, b - a);
    case OP_V_MUL_F16: OP2(f16, f16, f16, a * b);
    case OP_V_FMA_F16: case OP_V_FMA_LEGACY_F16: OP3(f16, f16, f16, f16, a * b + c);
    case OP_V_MAD_F16: case OP_V_MAD_LEGACY_F16: OP3(f16, f16, f16, f16, (double)h2f(d2h(a * b)) + c);
    case OP_V_FMAC_F16: OPA(f16, f16, f16, a * b + c);
    case OP_V_FMAAK_F16: OP2(f16, f16, f16, a * b + h2f((u16)in->lit));
    case OP_V_FMAMK_F16: OP2(f16, f16, f16, a * h2f((u16)in->lit) + b);
    case OP_V_MIN_F16: case OP_V_MIN_NUM_F16: OP2(f16, f16, f16, fmin_(a, b));
    case OP_V_MAX_F16: case OP_V_MAX_NUM_F16: OP2(f16, f16, f16, fmax_(a, b));
    case OP_V_MINIMUM_F16: OP2(f16, f16, f16, fminp(a, b));
    case OP_V_MAXIMUM_F16: OP2(f16, f16, f16, fmaxp(a, b));
    case OP_V_MIN3_F16: case OP_V_MIN3_NUM_F16: OP3(f16, f16, f16, f16, fmin_(fmin_(a, b), c));
    case OP_V_MAX3_F16: case OP_V_MAX3_NUM_F16: OP3(f16, f16, f16, f16, fmax_(fmax_(a, b), c));
    case OP_V_MINIMUM3_F16: OP3(f16, f16, f16, f16, fminp(fminp(a, b), c));
    case OP_V_MAXIMUM3_F16: OP3(f16, f16, f16, f16, fmaxp(fmaxp(a, b), c));
    case OP_V_MED3_F16: case OP_V_MED3_NUM_F16: OP3(f16, f16, f16, f16, fmed3(a, b, c));
    case OP_V_MINMAX_F16: case OP_V_MINMAX_NUM_F16: OP3(f16, f16, f16, f16, fmax_(fmin_(a, b), c));
    case OP_V_MAXMIN_F16: case OP_V_MAXMIN_NUM_F16: OP3(f16, f16, f16, f16, fmin_(fmax_(a, b), c));
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
    case OP_V_FREXP_EXP_I16_F16: OP1(i16, f16, ({ int e = 0; if (isfinite(a) && a != 0) frexp(a, &e); e; }));
    case OP_V_FREXP_MANT_F16: OP1(f16, f16, ({ int e; isfinite(a) ? frexp(a, &e) : a; }));
    case OP_V_DIV_FIXUP_F16: case OP_V_DIV_FIXUP_LEGACY_F16: OP3(f16, f16, f16, f16, ({ double q = a; int s = !!signbit(b) ^ !!signbit(c); double r; if (c != c) r = c; else if (b != b) r = b; else if ((b == 0 && c == 0) || (isinf(b) && isinf(c))) r = (double)NAN;
      else if (b == 0 || isinf(c)) r = s ? -(double)INFINITY : (double)INFINITY; else if (isinf(b) || c == 0) r = s ? -0.0 : 0.0; else r = s ? -fabs(q) : fabs(q); r; }));
    case OP_V_PK_FMAC_F16: { F(0, u32); F(1, u32); LANES { u32 *r = &w->v[in->dst - 256][l]; u32 x = (u32)s0[l], y = (u32)s1[l];
      d[l] = d2h((double)h2f((u16)x) * h2f((u16)y) + h2f((u16)*r)) | (u32)d2h((double)h2f((u16)(x >> 16)) * h2f((u16)(y >> 16)) + h2f((u16)(*r >> 16))) << 16; } put(m, w, in, T_u32, d); } break;
    // ---- dot products
    case OP_V_DOT2_F32_F16: { pkfetch(m, w, in, 0, T_f16, s0); pkfetch(m, w, in, 1, T_f16, s1); F(2, f32); LANES d[l] = fb(dot2h((u32)s0[l], (u32)s1[l], bf((u32)s2[l]))); put(m, w, in, T_f32, d); } break;
    case OP_V_DOT2_F32_BF16: { pkfetch(m, w, in, 0, T_bf16, s0); pkfetch(m, w, in, 1, T_bf16, s1); F(2, f32); LANES d[l] = fb(dot2b((u32)s0[l], (u32)s1[l], bf((u32)s2[l]))); put(m, w, in, T_f32, d); } break;
    case OP_V_DOT2C_F32_F16: case OP_V_DOT2ACC_F32_F16: OPA(f32, u32, u32, dot2h(a, b, c));
    case OP_V_DOT2C_F32_BF16: case OP_V_DOT2ACC_F32_BF16: OPA(f32, u32, u32, dot2b(a, b, c));
    case OP_V_DOT2_F16_F16: OP3(f16, u32, u32, f16, (double)h2f((u16)a) * h2f((u16)b) + (double)h2f((u16)(a >> 16)) * h2f((u16)(b >> 16)) + c);
    case OP_V_DOT2_BF16_BF16: OP3(bf16, u32, u32, bf16, dot2b(a, b, c));
    case OP_V_DOT4_I32_IU8: { int sa = in->neg & 1, sb = in->neg >> 1 & 1; OP3(u32, u32, u32, i32, in->clamp ? sat_i32((i64)c + dot4(a, b, sa, sb)) : (u32)(c + (i64)dot4(a, b, sa, sb))); }
    case OP_V_DOT8_I32_IU4: { int sa = in->neg & 1, sb = in->neg >> 1 & 1; OP3(u32, u32, u32, i32, in->clamp ? sat_i32((i64)c + dot8(a, b, sa, sb)) : (u32)(c + (i64)dot8(a, b, sa, sb))); }
    case OP_V_DOT4_I32_I8: OP3(u32, u32, u32, i32, in->clamp ? sat_i32((i64)c + dot4(a, b, 1, 1)) : (u32)(c + (i64)dot4(a, b, 1, 1)));
    case OP_V_DOT8_I32_I4: OP3(u32, u32, u32, i32, in->clamp ? sat_i32((i64)c + dot8(a, b, 1, 1)) : (u32)(c + (i64)dot8(a, b, 1, 1)));
    case OP_V_DOT4C_I32_I8: OPA(u32, u32, u32, c + (u32)dot4(a, b, 1, 1));
    case OP_V_DOT8C_I32_I4: OPA(u32, u32, u32, c + (u32)dot8(a, b, 1, 1));
    case OP_V_DOT4_U32_U8: OP3(u32, u32, u32, u32, in->clamp ? (u32)MIN((u64)c + (u32)dot4(a, b, 0, 0), 0xffffffffull) : c + (u32)dot4(a, b, 0, 0));
    case OP_V_DOT8_U32_U4: OP3(u32, u32, u32, u32, in->clamp ? (u32)MIN((u64)c + (u32)dot8(a, b, 0, 0), 0xffffffffull) : c + (u32)dot8(a, b, 0, 0));
    case OP_V_DOT2_I32_I16: OP3(u32, u32, u32, u32, c + (u32)((i32)(i16)a * (i16)b) + (u32)((i32)(i16)(a >> 16) * (i16)(b >> 16)));
    case OP_V_DOT2_U32_U16: OP3(u32, u32, u32, u32, c + (a & 0xffff) * (b & 0xffff) + (a >> 16) * (b >> 16));
#define DOT4F8(x, y) OP3(f32, u32, u32, f32, ({ double r = c; for (int i = 0; i < 4; i++) r += (double)fp8f(m, (u8)(a >> 8 * i), x) * fp8f(m, (u8)(b >> 8 * i), y); (float)r; }))
    case OP_V_DOT4_F32_FP8_FP8: DOT4F8(0, 0);
    case OP_V_DOT4_F32_FP8_BF8: DOT4F8(0, 1);
    case OP_V_DOT4_F32_BF8_FP8: DOT4F8(1, 0);
    case OP_V_DOT4_F32_BF8_BF8: DOT4F8(1, 1);
    // ---- conversions
    case OP_V_CVT_F32_I32: OP1(f32, i32, (float)a);
    case OP_V_CVT_F32_U32: OP1(f32, u32, (float)a);
    case OP_V_CVT_I32_F32: OP1(i32, f32, f2i(a));
    case OP_V_CVT_U32_F32: OP1(u32, f32, f2u(a));
    case OP_V_CVT_NEAREST_I32_F32: case OP_V_CVT_RPI_I32_F32: OP1(i32, f32, f2i(floor((double)a + 0.5)));
    case OP_V_CVT_FLOOR_I32_F32: case OP_V_CVT_FLR_I32_F32: OP1(i32, f32, f2i(floor(a)));
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
    case OP_V_CVT_PK_RTZ_F16_F32: case OP_V_CVT_PKRTZ_F16_F32: OP2(u32, f32, f32, d2h_(a, 1) | (u32)d2h_(b, 1) << 16);
    case OP_V_CVT_PK_F16_F32: OP2(u32, f32, f32, d2h(a) | (u32)d2h(b) << 16);
    case OP_V_CVT_PK_BF16_F32: OP2(u32, f32, f32, f2b(a) | (u32)f2b(b) << 16);
    case OP_V_CVT_PK_I16_I32: OP2(u32, i32, i32, (u16)MIN(MAX(a, -32768), 32767) | (u32)(u16)MIN(MAX(b, -32768), 32767) << 16);
    case OP_V_CVT_PK_U16_U32: OP2(u32, u32, u32, MIN(a, 65535u) | MIN(b, 65535u) << 16);
    case OP_V_CVT_PK_I16_F32: OP2(u32, f32, f32, (u16)f2i16(a) | (u32)(u16)f2i16(b) << 16);
    case OP_V_CVT_PK_U16_F32: OP2(u32, f32, f32, f2u16(a) | (u32)f2u16(b) << 16);
    case OP_V_CVT_PK_NORM_I16_F32: case OP_V_CVT_PKNORM_I16_F32: OP2(u32, f32, f32, norm16(a, 1) | norm16(b, 1) << 16);
    case OP_V_CVT_PK_NORM_U16_F32: case OP_V_CVT_PKNORM_U16_F32: OP2(u32, f32, f32, norm16(a, 0) | norm16(b, 0) << 16);
    case OP_V_CVT_PK_U8_F32: OP3(u32, f32, u32, u32, (c & ~(0xffu << 8 * (b & 3))) | (u32)MIN(f2u(nearbyint((double)a)), 255u) << 8 * (b & 3));
    case OP_V_CVT_F32_FP8: case OP_V_CVT_F32_BF8: { int q = in->op == OP_V_CVT_F32_BF8, sel = in->sdwa || m->arch == CDNA ? 0 : (in->opsel & 1) << 1 | (in->opsel >> 1 & 1);
      Insn t = *in; t.opsel = 0; t.neg = t.abs = 0; fetch(m, w, &t, 0, T_u32, s0); LANES d[l] = fb(fp8f(m, (u8)(s0[l] >> 8 * sel), q)); put(m, w, &t, T_f32, d); } break;
    case OP_V_CVT_PK_F32_FP8: case OP_V_CVT_PK_F32_BF8: { int q = in->op == OP_V_CVT_PK_F32_BF8, sel = in->sdwa ? 0 : in->opsel & 1;
      Insn t = *in; t.opsel = 0; fetch(m, w, &t, 0, T_u32, s0); t.sdwa = 0;
      LANES d[l] = fb(fp8f(m, (u8)(s0[l] >> 16 * sel), q)) | (u64)fb(fp8f(m, (u8)(s0[l] >> (16 * sel + 8)), q)) << 32; put(m, w, &t, T_u64, d); } break;
    case OP_V_CVT_PK_FP8_F32: case OP_V_CVT_PK_BF8_F32: { int q = in->op == OP_V_CVT_PK_BF8_F32; F(0, f32); F(1, f32); Insn t = *in; t.keep16 = 1;
      LANES d[l] = f2fp8(m, w, bf((u32)s0[l]), q) | (u32)f2fp8(m, w, bf((u32)s1[l]), q) << 8; put(m, w, &t, T_u16, d); } break;
    // ---- comparisons: a = {condition, type, cmpx}
    case OP_V_CMP: {
      u64 r = 0; int t = in->a[1], cnd = in->a[0];
      fetch(m, w, in, 0, t, s0); fetch(m, w, in, 1, t, s1);
      LANES {
        int x;
        switch (t) {
          case T_f16: x = cmpf(G_f16(s0[l]), G_f16(s1[l]), cnd); break; case T_f32: x = cmpf(G_f32(s0[l]), G_f32(s1[l]), cnd); break;
          case T_f64: x = cmpf(bd(s0[l]), bd(s1[l]), cnd); break;
          case T_i16: x = cmp_i16((i16)s0[l], (i16)s1[l], cnd); break; case T_u16: x = cmp_u16((u16)s0[l], (u16)s1[l], cnd); break;
          case T_i32: x = cmp_i32((i32)s0[l], (i32)s1[l], cnd); break; case T_u32: x = cmp_u32((u32)s0[l], (u32)s1[l], cnd); break;
          case T_i64: x = cmp_i64((i64)s0[l], (i64)s1[l], cnd); break; default: x = cmp_u64(s0[l], s1[l], cnd);
        }
        r |= (u64)x << l;
      }
      r &= w->wmask;
      if (in->a[2]) { wmask(m, w, 126, r); if (m->arch == CDNA) wmask(m, w, in->sdst, r); }
      else wmask(m, w, in->sdst, r);
    } break;
    case OP_V_CMP_CLASS: { u64 r = 0; fetch(m, w, in, 0, in->a[1], s0); Insn t = *in; t.neg = t.abs = 0; fetch(m, w, &t, 1, T_u32, s1);
      LANES r |= (u64)fclass(s0[l], in->a[1], (u32)s1[l]) << l; r &= w->wmask;
      if (in->a[2]) { wmask(m, w, 126, r); if (m->arch == CDNA) wmask(m, w, in->sdst, r); } else wmask(m, w, in->sdst, r); } break;
    // ---- cross-lane
    case OP_V_READFIRSTLANE_B32: { u64 ex = execm(w); u32 l0 = ex ? (u32)__builtin_ctzll(ex) : 0; F(0, u32); sw32(m, w, in->dst & 255, (u32)s0[l0]); } break;
    case OP_V_READLANE_B32: { F(0, u32); sw32(m, w, in->dst & 255, (u32)s0[sr32(m, w, in, 1) & (W - 1)]); } break;
    case OP_V_WRITELANE_B32: w->v[in->dst - 256][sr32(m, w, in, 1) & (W - 1)] = sr32(m, w, in, 0); break;
    case OP_V_PERMLANE16_B32: case OP_V_PERMLANEX16_B32: case OP_V_PERMLANE16_VAR_B32: case OP_V_PERMLANEX16_VAR_B32: {
      int var = in->op == OP_V_PERMLANE16_VAR_B32 || in->op == OP_V_PERMLANEX16_VAR_B32, x = in->op == OP_V_PERMLANEX16_B32 || in->op == OP_V_PERMLANEX16_VAR_B32;
      u64 ex = execm(w), sel = var ? 0 : sr32(m, w, in, 1) | (u64)sr32(m, w, in, 2) << 32;
      Insn t = *in; t.opsel = 0; fetch(m, w, &t, 0, T_u32, s0); if (var) fetch(m, w, &t, 1, T_u32, s1);
      LANES {
        u32 s = ((l & ~15u) ^ (x ? 16 : 0)) + (var ? (u32)s1[l] & 15 : (u32)(sel >> 4 * (l & 15)) & 15);
        if ((in->opsel & 1) || (ex >> s & 1)) d[l] = s0[s]; else if (in->opsel & 2) d[l] = 0; else { d[l] = 0; w->wmask &= ~(1ull << l); }
      }
      put(m, w, &t, T_u32, d); } break;
    case OP_V_PERMLANE64_B32: break;                    // no effect in wave32
    case OP_V_PERMLANE32_SWAP_B32: for (u32 l = 0; l < 32; l++) { u32 *p = &w->v[in->dst - 256][l + 32], *q = &w->v[in->src[0] - 256][l], t = *p; *p = *q; *q = t; } break;
    case OP_V_PERMLANE16_SWAP_B32: for (u32 l = 0; l < 64; l++) if (!(l & 16)) { u32 *p = &w->v[in->dst - 256][l + 16], *q = &w->v[in->src[0] - 256][l], t = *p; *p = *q; *q = t; } break;
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
    case OP_V_PK_MIN_F16: case OP_V_PK_MIN_NUM_F16: PK2(f16, fmin_(a, b));
    case OP_V_PK_MAX_F16: case OP_V_PK_MAX_NUM_F16: PK2(f16, fmax_(a, b));
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
    case OP_V_PK_ADD_F32: case OP_V_PK_MUL_F32: case OP_V_PK_FMA_F32: {
      pk32(m, w, in, 0, s0); pk32(m, w, in, 1, s1); if (in->op == OP_V_PK_FMA_F32) pk32(m, w, in, 2, s2);
      LANES { u32 r[2]; for (int h = 0; h < 2; h++) { float a = bf((u32)(s0[l] >> 32 * h)), b = bf((u32)(s1[l] >> 32 * h)), q = in->op == OP_V_PK_ADD_F32 ? a + b : in->op == OP_V_PK_MUL_F32 ? a * b : fmaf(a, b, bf((u32)(s2[l] >> 32 * h)));
        if (in->clamp) q = (float)clamp01(q); r[h] = fb(q); } d[l] = r[0] | (u64)r[1] << 32; }
      Insn t = *in; t.clamp = 0; put(m, w, &t, T_u64, d); } break;
    case OP_V_PK_MOV_B32: {                             // op_sel picks the half of each source, op_sel_hi is not used
      Insn q = *in; q.opselhi = q.opsel; q.neg = q.neghi = 0;
      pk32(m, w, &q, 0, s0); pk32(m, w, &q, 1, s1); LANES d[l] = (u32)s0[l] | s1[l] >> 32 << 32; put(m, w, in, T_u64, d); } break;
    case OP_V_FMA_MIX_F32: case OP_V_MAD_MIX_F32: LANES d[l] = fb(fmaf(mixsrc(m, w, in, 0, l), mixsrc(m, w, in, 1, l), mixsrc(m, w, in, 2, l))); put(m, w, in, T_f32, d); break;
    case OP_V_FMA_MIXLO_F16: case OP_V_MAD_MIXLO_F16: case OP_V_FMA_MIXHI_F16: case OP_V_MAD_MIXHI_F16: {
      Insn t = *in; t.keep16 = 1; t.opsel = in->op == OP_V_FMA_MIXHI_F16 || in->op == OP_V_MAD_MIXHI_F16 ? 8 : 0;
      LANES d[l] = d2h((double)mixsrc(m, w, in, 0, l) * mixsrc(m, w, in, 1, l) + mixsrc(m, w, in, 2, l)); put(m, w, &t, T_f16, d); } break;
    case OP_V_MFMA: mfma(m, w, in); break;
    case OP_V_WMMA: wmma(m, w, in); break;
    default: return -1;
  }
  return 0;
}

static int vector(Machine *m, Wave *w, const Insn *in) {
  if (!w->gpridx) return valu(m, w, in);
  Insn q = *in; u32 i = w->s[124] & 255;                 // CDNA: M0[7:0] is added to the enabled VGPR operands
  for (int k = 0; k < 3; k++) if (w->gpridx >> k & 1 && q.src[k] >= 256) q.src[k] += i;
  if (w->gpridx & 8 && q.dst >= 256) q.dst += i;
  for (int k = 0; k < 4; k++) { u32 c = k < 3 ? q.src[k] : q.dst, o = k < 3 ? in->src[k] : in->dst; if (o >= 256 && o < 512 && c > 511) { fail(m, E_MODIFIER, 0, i, 3); return 0; } }
  return valu(m, w, &q);
}
