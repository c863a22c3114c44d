// Scalar instructions: branches, SALU, SMEM, mode registers.
#ifndef KGEN_EMU_SCALAR_H
#define KGEN_EMU_SCALAR_H
#include "arithmetic.h"

#define A32 (u32) sread(m, w, in, in->src[0], T_u32)
#define B32 (u32) sread(m, w, in, in->src[1], T_u32)
#define A64 sread(m, w, in, in->src[0], T_u64)
#define B64 sread(m, w, in, in->src[1], T_u64)
#define AF bf((u32)sread(m, w, in, in->src[0], T_f32))
#define BF bf((u32)sread(m, w, in, in->src[1], T_f32))
#define AH ((double)h2f((u16)sread(m, w, in, in->src[0], T_f16)))
#define BH ((double)h2f((u16)sread(m, w, in, in->src[1], T_f16)))
#define D32(x)               \
  do {                       \
    u32 r_ = (u32)(x);       \
    sw32(m, w, in->dst, r_); \
  } while (0)
#define D64(x)               \
  do {                       \
    u64 r_ = (x);            \
    sw64(m, w, in->dst, r_); \
  } while (0)
#define L32(x)               \
  do {                       \
    u32 r_ = (u32)(x);       \
    sw32(m, w, in->dst, r_); \
    w->scc = r_ != 0;        \
  } while (0)
#define L64(x)               \
  do {                       \
    u64 r_ = (x);            \
    sw64(m, w, in->dst, r_); \
    w->scc = r_ != 0;        \
  } while (0)
#define DEST ((u32)sread(m, w, in, in->dst, T_u32))
#define DEST64 sread(m, w, in, in->dst, T_u64)
#define SAVEEXEC(e)                                          \
  do {                                                       \
    u64 s = W == 64 ? A64 : (u64)A32, x = execm(w), n = (e); \
    (void)s;                                                 \
    if (W == 32) n = (u32)n;                                 \
    wmask(m, w, in->dst, x);                                 \
    wmask(m, w, 126, n);                                     \
    w->scc = n != 0;                                         \
  } while (0)
#define WREXEC(e)                                            \
  do {                                                       \
    u64 s = W == 64 ? A64 : (u64)A32, x = execm(w), n = (e); \
    if (W == 32) n = (u32)n;                                 \
    wmask(m, w, in->dst, n);                                 \
    wmask(m, w, 126, n);                                     \
    w->scc = n != 0;                                         \
  } while (0)

static u32 *hwreg(Wave *w, u32 id, u32 *tmp) {
  if (id == 1) return &w->mode;  // (gpr_idx_en, bit 27 of MODE, is kept in w->gpridx)
  *tmp = id == 4 || id == 23 ? w->hwid : id == 20 || id == 29 ? (u32)w->count : 0;
  return tmp;
}

// returns 0, -1 unknown, or 1 + status to leave the loop
static int scalar(Machine *m, Wave *w, const Insn *in) {
  switch (in->op) {
    case OP_NOP: __atomic_thread_fence(__ATOMIC_SEQ_CST); break;
    case OP_S_SET_GPR_IDX_ON:
      w->gpridx = 16 | (in->src[1] & 15);
      w->s[124] = (w->s[124] & ~0xf0ffu) | (A32 & 255) | (u32)(in->src[1] & 15) << 12;
      break;
    case OP_S_SET_GPR_IDX_OFF: w->gpridx = 0; break;
    case OP_S_SET_GPR_IDX_IDX: w->s[124] = (w->s[124] & ~255u) | (A32 & 255); break;
    case OP_S_SET_GPR_IDX_MODE:
      w->gpridx = 16 | (in->imm & 15);
      w->s[124] = (w->s[124] & ~0xf000u) | ((u32)in->imm & 15) << 12;
      break;
    case OP_S_ENDPGM:
    case OP_S_ENDPGM_SAVED: return 1 + ST_END;
    case OP_S_BARRIER:
    case OP_S_BARRIER_WAIT: return 1 + ST_BARRIER;
    case OP_S_SLEEP:
    case OP_S_SLEEP_VAR: return 1 + ST_YIELD;
    case OP_S_TRAP: fail(m, E_TRAP, 0, (u64)(u32)in->imm, 0); break;
    case OP_S_BRANCH: w->pc += (i64)in->imm * 4; break;
    case OP_S_CBRANCH_SCC0:
      if (!w->scc) w->pc += (i64)in->imm * 4;
      break;
    case OP_S_CBRANCH_SCC1:
      if (w->scc) w->pc += (i64)in->imm * 4;
      break;
    case OP_S_CBRANCH_VCCZ:
      if (!rmask(m, w, in, 106)) w->pc += (i64)in->imm * 4;
      break;
    case OP_S_CBRANCH_VCCNZ:
      if (rmask(m, w, in, 106)) w->pc += (i64)in->imm * 4;
      break;
    case OP_S_CBRANCH_EXECZ:
      if (!execm(w)) w->pc += (i64)in->imm * 4;
      break;
    case OP_S_CBRANCH_EXECNZ:
      if (execm(w)) w->pc += (i64)in->imm * 4;
      break;
    case OP_S_DENORM_MODE:
      w->mode = (w->mode & ~0xf0u) | ((u32)in->imm & 15) << 4;
      set_mode(w);
      break;
    case OP_S_ROUND_MODE:
      w->mode = (w->mode & ~0xfu) | ((u32)in->imm & 15);
      set_mode(w);
      break;
    // ---- SOP1
    case OP_S_MOV_B32: D32(A32); break;
    case OP_S_MOV_B64: D64(A64); break;
    case OP_S_CMOV_B32:
      if (w->scc) D32(A32);
      break;
    case OP_S_CMOV_B64:
      if (w->scc) D64(A64);
      break;
    case OP_S_NOT_B32: L32(~A32); break;
    case OP_S_NOT_B64: L64(~A64); break;
    case OP_S_BREV_B32: D32(brev32(A32)); break;
    case OP_S_BREV_B64: D64(brev64(A64)); break;
    case OP_S_BCNT0_I32_B32: L32(32 - __builtin_popcount(A32)); break;
    case OP_S_BCNT0_I32_B64: L32(64 - __builtin_popcountll(A64)); break;
    case OP_S_BCNT1_I32_B32: L32(__builtin_popcount(A32)); break;
    case OP_S_BCNT1_I32_B64: L32(__builtin_popcountll(A64)); break;
    case OP_S_FF1_I32_B32:
    case OP_S_CTZ_I32_B32: D32(ctz32(A32)); break;
    case OP_S_FF1_I32_B64:
    case OP_S_CTZ_I32_B64: {
      u64 x = A64;
      D32(x ? __builtin_ctzll(x) : -1);
    } break;
    case OP_S_FF0_I32_B32: D32(ctz32(~A32)); break;
    case OP_S_FLBIT_I32_B32:
    case OP_S_CLZ_I32_U32: D32(clz32(A32)); break;
    case OP_S_FLBIT_I32_B64:
    case OP_S_CLZ_I32_U64: {
      u64 x = A64;
      D32(x ? __builtin_clzll(x) : -1);
    } break;
    case OP_S_FLBIT_I32:
    case OP_S_CLS_I32: D32(cls32((i32)A32)); break;
    case OP_S_FLBIT_I32_I64:
    case OP_S_CLS_I32_I64: {
      i64 x = (i64)A64;
      u64 y = (u64)(x < 0 ? ~x : x);
      D32(y ? __builtin_clzll(y) : -1);
    } break;
    case OP_S_SEXT_I32_I8: D32((i32)(i8)A32); break;
    case OP_S_SEXT_I32_I16: D32((i32)(i16)A32); break;
    case OP_S_BITSET0_B32: D32(DEST & ~(1u << (A32 & 31))); break;
    case OP_S_BITSET1_B32: D32(DEST | 1u << (A32 & 31)); break;
    case OP_S_BITSET0_B64: D64(DEST64 & ~(1ull << (A32 & 63))); break;
    case OP_S_BITSET1_B64: D64(DEST64 | 1ull << (A32 & 63)); break;
    case OP_S_ABS_I32: {
      i32 x = (i32)A32;
      L32(x < 0 ? 0u - (u32)x : (u32)x);
    } break;
    case OP_S_GETPC_B64: D64(w->pc); break;
    case OP_S_SETPC_B64: w->pc = A64; break;
    case OP_S_SWAPPC_B64: {
      u64 t = A64;
      D64(w->pc);
      w->pc = t;
    } break;
    case OP_S_CALL_B64:
      D64(w->pc);
      w->pc += (i64)in->imm * 4;
      break;
    case OP_S_AND_SAVEEXEC_B64:
    case OP_S_AND_SAVEEXEC_B32: SAVEEXEC(s & x); break;
    case OP_S_OR_SAVEEXEC_B64:
    case OP_S_OR_SAVEEXEC_B32: SAVEEXEC(s | x); break;
    case OP_S_XOR_SAVEEXEC_B64:
    case OP_S_XOR_SAVEEXEC_B32: SAVEEXEC(s ^ x); break;
    case OP_S_XNOR_SAVEEXEC_B64:
    case OP_S_XNOR_SAVEEXEC_B32: SAVEEXEC(~(s ^ x)); break;
    case OP_S_NAND_SAVEEXEC_B64:
    case OP_S_NAND_SAVEEXEC_B32: SAVEEXEC(~(s & x)); break;
    case OP_S_NOR_SAVEEXEC_B64:
    case OP_S_NOR_SAVEEXEC_B32: SAVEEXEC(~(s | x)); break;
    case OP_S_AND_NOT1_SAVEEXEC_B64:
    case OP_S_AND_NOT1_SAVEEXEC_B32:
    case OP_S_ANDN2_SAVEEXEC_B64: SAVEEXEC(s & ~x); break;
    case OP_S_AND_NOT0_SAVEEXEC_B64:
    case OP_S_AND_NOT0_SAVEEXEC_B32:
    case OP_S_ANDN1_SAVEEXEC_B64: SAVEEXEC(~s & x); break;
    case OP_S_OR_NOT1_SAVEEXEC_B64:
    case OP_S_OR_NOT1_SAVEEXEC_B32:
    case OP_S_ORN2_SAVEEXEC_B64: SAVEEXEC(s | ~x); break;
    case OP_S_OR_NOT0_SAVEEXEC_B64:
    case OP_S_OR_NOT0_SAVEEXEC_B32:
    case OP_S_ORN1_SAVEEXEC_B64: SAVEEXEC(~s | x); break;
    case OP_S_AND_NOT1_WREXEC_B64:
    case OP_S_AND_NOT1_WREXEC_B32:
    case OP_S_ANDN2_WREXEC_B64: WREXEC(s & ~x); break;
    case OP_S_AND_NOT0_WREXEC_B64:
    case OP_S_AND_NOT0_WREXEC_B32:
    case OP_S_ANDN1_WREXEC_B64: WREXEC(~s & x); break;
    case OP_S_CEIL_F32: D32(fb(ceilf(AF))); break;
    case OP_S_FLOOR_F32: D32(fb(floorf(AF))); break;
    case OP_S_TRUNC_F32: D32(fb(truncf(AF))); break;
    case OP_S_RNDNE_F32: D32(fb(nearbyintf(AF))); break;
    case OP_S_CEIL_F16: D32(d2h(ceil(AH))); break;
    case OP_S_FLOOR_F16: D32(d2h(floor(AH))); break;
    case OP_S_TRUNC_F16: D32(d2h(trunc(AH))); break;
    case OP_S_RNDNE_F16: D32(d2h(nearbyint(AH))); break;
    case OP_S_CVT_F32_I32: D32(fb((float)(i32)A32)); break;
    case OP_S_CVT_F32_U32: D32(fb((float)A32)); break;
    case OP_S_CVT_I32_F32: D32(f2i(AF)); break;
    case OP_S_CVT_U32_F32: D32(f2u(AF)); break;
    case OP_S_CVT_F16_F32: D32(d2h(AF)); break;
    case OP_S_CVT_F32_F16: D32(fb((float)AH)); break;
    case OP_S_CVT_HI_F32_F16: D32(fb(h2f((u16)(A32 >> 16)))); break;
    case OP_S_BARRIER_SIGNAL: break;  // one barrier per workgroup: the wait does the work
    case OP_S_BITREPLICATE_B64_B32: {
      u32 x = A32;
      u64 r = 0;
      for (int i = 0; i < 32; i++) r |= (u64)(x >> i & 1) * 3 << 2 * i;
      D64(r);
    } break;
    case OP_S_QUADMASK_B32: {
      u32 x = A32, r = 0;
      for (int i = 0; i < 8; i++) r |= (u32)((x >> 4 * i & 15) != 0) << i;
      L32(r);
    } break;
    case OP_S_WQM_B32: {
      u32 x = A32, r = 0;
      for (int i = 0; i < 8; i++)
        if (x >> 4 * i & 15) r |= 15u << 4 * i;
      L32(r);
    } break;
    case OP_S_WQM_B64: {
      u64 x = A64, r = 0;
      for (int i = 0; i < 16; i++)
        if (x >> 4 * i & 15) r |= 15ull << 4 * i;
      L64(r);
    } break;
    // ---- SOP2
    case OP_S_ADD_U32:
    case OP_S_ADD_CO_U32: {
      u64 r = (u64)A32 + B32;
      w->scc = r >> 32 != 0;
      D32(r);
    } break;
    case OP_S_SUB_U32:
    case OP_S_SUB_CO_U32: {
      u32 a = A32, b = B32;
      w->scc = b > a;
      D32(a - b);
    } break;
    case OP_S_ADD_I32:
    case OP_S_ADD_CO_I32: {
      i32 a = (i32)A32, b = (i32)B32, r;
      w->scc = (u32)__builtin_add_overflow(a, b, &r);
      D32(r);
    } break;
    case OP_S_SUB_I32:
    case OP_S_SUB_CO_I32: {
      i32 a = (i32)A32, b = (i32)B32, r;
      w->scc = (u32)__builtin_sub_overflow(a, b, &r);
      D32(r);
    } break;
    case OP_S_ADDC_U32:
    case OP_S_ADD_CO_CI_U32: {
      u64 r = (u64)A32 + B32 + w->scc;
      w->scc = r >> 32 != 0;
      D32(r);
    } break;
    case OP_S_SUBB_U32:
    case OP_S_SUB_CO_CI_U32: {
      u32 a = A32, b = B32, c = w->scc;
      w->scc = (u64)b + c > a;
      D32(a - b - c);
    } break;
    case OP_S_ABSDIFF_I32: {
      i64 r = (i64)(i32)A32 - (i32)B32;
      L32((u32)(r < 0 ? -r : r));
    } break;
    case OP_S_LSHL_B32: {
      u32 s = B32 & 31;
      L32(A32 << s);
    } break;
    case OP_S_LSHR_B32: {
      u32 s = B32 & 31;
      L32(A32 >> s);
    } break;
    case OP_S_ASHR_I32: {
      u32 s = B32 & 31;
      L32((i32)A32 >> s);
    } break;
    case OP_S_LSHL_B64: {
      u32 s = B32 & 63;
      L64(A64 << s);
    } break;
    case OP_S_LSHR_B64: {
      u32 s = B32 & 63;
      L64(A64 >> s);
    } break;
    case OP_S_ASHR_I64: {
      u32 s = B32 & 63;
      L64((u64)((i64)sread(m, w, in, in->src[0], T_i64) >> s));
    } break;
    case OP_S_LSHL1_ADD_U32: {
      u64 r = ((u64)A32 << 1) + B32;
      w->scc = r >> 32 != 0;
      D32(r);
    } break;
    case OP_S_LSHL2_ADD_U32: {
      u64 r = ((u64)A32 << 2) + B32;
      w->scc = r >> 32 != 0;
      D32(r);
    } break;
    case OP_S_LSHL3_ADD_U32: {
      u64 r = ((u64)A32 << 3) + B32;
      w->scc = r >> 32 != 0;
      D32(r);
    } break;
    case OP_S_LSHL4_ADD_U32: {
      u64 r = ((u64)A32 << 4) + B32;
      w->scc = r >> 32 != 0;
      D32(r);
    } break;
    case OP_S_MIN_I32: {
      i32 a = (i32)A32, b = (i32)B32;
      w->scc = a < b;
      D32(MIN(a, b));
    } break;
    case OP_S_MAX_I32: {
      i32 a = (i32)A32, b = (i32)B32;
      w->scc = a >= b;
      D32(MAX(a, b));
    } break;
    case OP_S_MIN_U32: {
      u32 a = A32, b = B32;
      w->scc = a < b;
      D32(MIN(a, b));
    } break;
    case OP_S_MAX_U32: {
      u32 a = A32, b = B32;
      w->scc = a >= b;
      D32(MAX(a, b));
    } break;
    case OP_S_AND_B32: L32(A32 & B32); break;
    case OP_S_OR_B32: L32(A32 | B32); break;
    case OP_S_XOR_B32: L32(A32 ^ B32); break;
    case OP_S_NAND_B32: L32(~(A32 & B32)); break;
    case OP_S_NOR_B32: L32(~(A32 | B32)); break;
    case OP_S_XNOR_B32: L32(~(A32 ^ B32)); break;
    case OP_S_AND_NOT1_B32:
    case OP_S_ANDN2_B32: L32(A32 & ~B32); break;
    case OP_S_OR_NOT1_B32:
    case OP_S_ORN2_B32: L32(A32 | ~B32); break;
    case OP_S_AND_B64: L64(A64 & B64); break;
    case OP_S_OR_B64: L64(A64 | B64); break;
    case OP_S_XOR_B64: L64(A64 ^ B64); break;
    case OP_S_NAND_B64: L64(~(A64 & B64)); break;
    case OP_S_NOR_B64: L64(~(A64 | B64)); break;
    case OP_S_XNOR_B64: L64(~(A64 ^ B64)); break;
    case OP_S_AND_NOT1_B64:
    case OP_S_ANDN2_B64: L64(A64 & ~B64); break;
    case OP_S_OR_NOT1_B64:
    case OP_S_ORN2_B64: L64(A64 | ~B64); break;
    case OP_S_BFE_U32: {
      u32 b = B32, n = b >> 16 & 127;
      u64 a = A32;
      L32(n ? (a >> (b & 31)) & ((1ull << MIN(n, 32u)) - 1) : 0);
    } break;
    case OP_S_BFE_I32: {
      u32 b = B32, n = MIN(b >> 16 & 127, 32u);
      i64 a = (i64)(i32)A32 >> (b & 31);
      L32(n ? (u32)((a << (64 - n)) >> (64 - n)) : 0);
    } break;
    case OP_S_BFE_U64: {
      u32 b = B32, n = MIN(b >> 16 & 127, 64u);
      u64 a = A64 >> (b & 63);
      L64(n ? n < 64 ? a & ((1ull << n) - 1) : a : 0);
    } break;
    case OP_S_BFE_I64: {
      u32 b = B32, n = MIN(b >> 16 & 127, 64u);
      i64 a = (i64)A64 >> (b & 63);
      L64(n ? (u64)((i64)((u64)a << (64 - n)) >> (64 - n)) : 0);
    } break;
    case OP_S_BFM_B32: D32(((1u << (A32 & 31)) - 1) << (B32 & 31)); break;
    case OP_S_BFM_B64: D64(((1ull << (A32 & 63)) - 1) << (B32 & 63)); break;
    case OP_S_MUL_I32: D32(A32 * B32); break;
    case OP_S_MUL_HI_U32: D32(((u64)A32 * B32) >> 32); break;
    case OP_S_MUL_HI_I32: D32((u32)(((i64)(i32)A32 * (i32)B32) >> 32)); break;
    case OP_S_CSELECT_B32: D32(w->scc ? A32 : B32); break;
    case OP_S_CSELECT_B64: D64(w->scc ? A64 : B64); break;
    case OP_S_PACK_LL_B32_B16: D32((A32 & 0xffff) | B32 << 16); break;
    case OP_S_PACK_LH_B32_B16: D32((A32 & 0xffff) | (B32 & 0xffff0000u)); break;
    case OP_S_PACK_HH_B32_B16: D32(A32 >> 16 | (B32 & 0xffff0000u)); break;
    case OP_S_PACK_HL_B32_B16: D32(A32 >> 16 | B32 << 16); break;
    case OP_S_ADD_NC_U64: D64(A64 + B64); break;
    case OP_S_SUB_NC_U64: D64(A64 - B64); break;
    case OP_S_MUL_U64: D64(A64 * B64); break;
    case OP_S_ADD_F32: D32(fb(AF + BF)); break;
    case OP_S_SUB_F32: D32(fb(AF - BF)); break;
    case OP_S_MUL_F32: D32(fb(AF * BF)); break;
    case OP_S_MIN_F32:
    case OP_S_MIN_NUM_F32: D32(fb((float)fmin_(AF, BF))); break;
    case OP_S_MAX_F32:
    case OP_S_MAX_NUM_F32: D32(fb((float)fmax_(AF, BF))); break;
    case OP_S_MINIMUM_F32: D32(fb((float)fminp(AF, BF))); break;
    case OP_S_MAXIMUM_F32: D32(fb((float)fmaxp(AF, BF))); break;
    case OP_S_FMAC_F32: D32(fb(fmaf(AF, BF, bf(DEST)))); break;
    case OP_S_FMAAK_F32: D32(fb(fmaf(AF, BF, bf(in->lit)))); break;
    case OP_S_FMAMK_F32: D32(fb(fmaf(AF, bf(in->lit), BF))); break;
    case OP_S_CVT_PK_RTZ_F16_F32: D32(d2h_(AF, 1) | (u32)d2h_(BF, 1) << 16); break;
    case OP_S_ADD_F16: D32(d2h(AH + BH)); break;
    case OP_S_SUB_F16: D32(d2h(AH - BH)); break;
    case OP_S_MUL_F16: D32(d2h(AH * BH)); break;
    case OP_S_MIN_F16:
    case OP_S_MIN_NUM_F16: D32(d2h(fmin_(AH, BH))); break;
    case OP_S_MAX_F16:
    case OP_S_MAX_NUM_F16: D32(d2h(fmax_(AH, BH))); break;
    case OP_S_FMAC_F16: D32(d2h(AH * BH + h2f((u16)DEST))); break;
    // ---- SOPC
    case OP_S_CMP_EQ_I32:
    case OP_S_CMP_EQ_U32: w->scc = A32 == B32; break;
    case OP_S_CMP_LG_I32:
    case OP_S_CMP_LG_U32: w->scc = A32 != B32; break;
    case OP_S_CMP_GT_I32: w->scc = (i32)A32 > (i32)B32; break;
    case OP_S_CMP_GE_I32: w->scc = (i32)A32 >= (i32)B32; break;
    case OP_S_CMP_LT_I32: w->scc = (i32)A32 < (i32)B32; break;
    case OP_S_CMP_LE_I32: w->scc = (i32)A32 <= (i32)B32; break;
    case OP_S_CMP_GT_U32: w->scc = A32 > B32; break;
    case OP_S_CMP_GE_U32: w->scc = A32 >= B32; break;
    case OP_S_CMP_LT_U32: w->scc = A32 < B32; break;
    case OP_S_CMP_LE_U32: w->scc = A32 <= B32; break;
    case OP_S_CMP_EQ_U64: w->scc = A64 == B64; break;
    case OP_S_CMP_LG_U64: w->scc = A64 != B64; break;
    case OP_S_BITCMP0_B32: w->scc = !(A32 >> (B32 & 31) & 1); break;
    case OP_S_BITCMP1_B32: w->scc = A32 >> (B32 & 31) & 1; break;
    case OP_S_BITCMP0_B64: w->scc = !(A64 >> (B32 & 63) & 1); break;
    case OP_S_BITCMP1_B64: w->scc = A64 >> (B32 & 63) & 1; break;
    case OP_S_CMP_F: w->scc = (u32)(in->a[1] == T_f16 ? cmpf(AH, BH, in->a[0]) : cmpf(AF, BF, in->a[0])); break;
    // ---- SOPK
    case OP_S_MOVK_I32: D32(in->imm); break;
    case OP_S_CMOVK_I32:
      if (w->scc) D32(in->imm);
      break;
    case OP_S_ADDK_I32:
    case OP_S_ADDK_CO_I32: {
      i32 r;
      w->scc = (u32)__builtin_add_overflow((i32)DEST, in->imm, &r);
      D32(r);
    } break;
    case OP_S_MULK_I32: D32(DEST * (u32)in->imm); break;
    case OP_S_CMPK_EQ_I32: w->scc = (i32)DEST == in->imm; break;
    case OP_S_CMPK_LG_I32: w->scc = (i32)DEST != in->imm; break;
    case OP_S_CMPK_GT_I32: w->scc = (i32)DEST > in->imm; break;
    case OP_S_CMPK_GE_I32: w->scc = (i32)DEST >= in->imm; break;
    case OP_S_CMPK_LT_I32: w->scc = (i32)DEST < in->imm; break;
    case OP_S_CMPK_LE_I32: w->scc = (i32)DEST <= in->imm; break;
    case OP_S_CMPK_EQ_U32: w->scc = DEST == (u16)in->imm; break;
    case OP_S_CMPK_LG_U32: w->scc = DEST != (u16)in->imm; break;
    case OP_S_CMPK_GT_U32: w->scc = DEST > (u16)in->imm; break;
    case OP_S_CMPK_GE_U32: w->scc = DEST >= (u16)in->imm; break;
    case OP_S_CMPK_LT_U32: w->scc = DEST < (u16)in->imm; break;
    case OP_S_CMPK_LE_U32: w->scc = DEST <= (u16)in->imm; break;
    case OP_S_GETREG_B32: {
      u32 t, i = (u32)in->imm, off = i >> 6 & 31, n = (i >> 11 & 31) + 1;
      u32 v = *hwreg(w, i & 63, &t) >> off;
      D32(n < 32 ? v & ((1u << n) - 1) : v);
    } break;
    case OP_S_SETREG_B32:
    case OP_S_SETREG_IMM32_B32: {
      u32 t, i = (u32)in->imm, off = i >> 6 & 31, n = (i >> 11 & 31) + 1, v = in->op == OP_S_SETREG_B32 ? DEST : in->lit;
      u32 *r = hwreg(w, i & 63, &t), mk = (n < 32 ? (1u << n) - 1 : ~0u) << off;
      *r = (*r & ~mk) | (v << off & mk);
      set_mode(w);
    } break;
    // ---- SMEM: a = {bytes, sign extend, buffer}; src[0] base, src[1] soffset or 255, imm
    case OP_S_LOAD: {
      u64 base = (u64)w->s[in->src[0]] | (u64)w->s[in->src[0] + 1] << 32, a;
      u32 n = in->a[0];
      if (in->a[2]) base &= 0xffffffffffffull;
      u64 off = (u64)(i64)in->imm + (in->src[1] < 128 && !(in->src[1] == 124 && m->arch != CDNA) ? w->s[in->src[1]] : 0);
      a = base + off;
      if (n >= 4) a &= ~3ull;
      if (in->a[2] && off + n > w->s[in->src[0] + 2]) {
        for (u32 i = 0; i < (n + 3) / 4; i++) sw32(m, w, in->dst + i, 0);
        break;
      }
      u8 *p = gmem(m, a, n, 0, 0);
      if (!p) break;
      if (n >= 4) {
        u32 t[16];
        memcpy(t, p, n);
        for (u32 i = 0; i < n / 4; i++) sw32(m, w, in->dst + i, t[i]);
      } else {
        u32 v = n == 1 ? p[0] : (u32)p[0] | (u32)p[1] << 8;
        if (in->a[1]) v = n == 1 ? (u32)(i32)(i8)v : (u32)(i32)(i16)v;
        sw32(m, w, in->dst, v);
      }
    } break;
    case OP_S_SENDMSG_RTN_B32: D32(0); break;
    case OP_S_MEMTIME:
    case OP_S_MEMREALTIME:
    case OP_S_SENDMSG_RTN_B64: D64(w->count); break;
    default: return -1;
  }
  return 0;
}

#endif
