// The run loop for both wave sizes, and the choice of handlers.
#include "fast.h"

#define WAVE 32
#define NAME(x) x##_32
#include "loop.h"
#undef WAVE
#undef NAME
#define WAVE 64
#define NAME(x) x##_64
#include "loop.h"

// Run one wave for at most `budget` instructions; returns why it stopped.
int run_wave(Machine *m, Wave *w, i64 budget) {
#if defined(__SSE__)
  u32 saved = __builtin_ia32_stmxcsr();
#endif
  m->err = E_NONE;
  set_mode(w);
  int st = W == 64 ? run_64(m, w, budget) : run_32(m, w, budget);
#if defined(__SSE__)
  __builtin_ia32_ldmxcsr(saved);
#endif
  return st;
}

static int is_source(u32 code) { return code <= 208 || (code >= 240 && code <= 248) || code == 255 || code >= 256; }

// Handler for a plain vector ALU operation, or FAST_NONE if a modifier is in the way.
static u32 valu_handler(const Insn *in) {
  u32 n = 0, kind = INT, handler = FAST_NONE;
  switch (in->op) {
#define X(name, sources, what, e) \
  case OP_##name:                 \
    handler = FAST_##name;        \
    n = sources;                  \
    kind = what;                  \
    break;
    FAST_VALU(X)
#undef X
    case OP_V_DOT2_F32_F16:
      handler = FAST_DOT2_F16;
      n = 3;
      kind = DOT;
      break;
    case OP_V_DOT2C_F32_F16:
    case OP_V_DOT2ACC_F32_F16:
      handler = FAST_DOT2_F16_SUM;
      n = 2;
      kind = SUM;
      break;
    default: return FAST_NONE;
  }
  if ((in->dpp && (kind == DOT || !dpp_is_total(in))) || in->sdwa || in->omod || in->clamp || in->dst < 256) return FAST_NONE;
  if (kind != FLOAT && (in->neg || in->abs)) return FAST_NONE;
  if (kind == DOT && (in->neghi || (in->opsel & 3) || (in->opselhi & 3) != 3)) return FAST_NONE;
  if (kind != DOT && in->opsel) return FAST_NONE;
  for (u32 k = 0; k < n; k++) {
    u32 c = in->src[k];
    if (!is_source(c)) return FAST_NONE;
    if (c >= 240 && c <= 248 && k < 2 && kind == DOT) return FAST_NONE;  // an inline constant of 16 bits there
  }
  return handler;
}
static int reads(const Insn *in, u32 reg) {
  for (u32 k = 0; k < 2; k++)
    if (in->src[k] == reg) return 1;
  return 0;
}
static u32 other_vector_handler(const Insn *in) {
  if (in->dpp || in->sdwa || in->omod || in->clamp || in->opsel) return FAST_NONE;
  for (u32 k = 0; k < 2; k++)
    if (!is_source(in->src[k])) return FAST_NONE;
  int whole = !in->neg && !in->abs;
  switch (in->op) {
    case OP_V_MFMA: {
      const u8 *a = in->a;  // M, N, K, blocks, formats of A and B (1 f16, 2 bf16), int, scaled
      int shape = a[0] == 4 && a[1] == 4 && a[2] == 4 && a[3] == 16 && !a[6] && !a[7], format = a[4] == a[5] && (a[4] == 1 || a[4] == 2);
      int apart = in->src[2] == in->dst || in->src[2] + 4 <= in->dst || in->dst + 4 <= in->src[2];
      return shape && format && apart && in->src[0] >= 256 && in->src[1] >= 256 && is_source(in->src[2]) ? FAST_MFMA_4X4X4 : FAST_NONE;
    }
    case OP_V_CNDMASK_B32: return in->src[2] < 128 ? FAST_CNDMASK : FAST_NONE;
    case OP_V_CMP:
      if (in->a[2] || in->a[0] > 15) return FAST_NONE;
      if (in->a[1] == T_f32) return FAST_CMP;
      return whole && (in->a[1] == T_u32 || in->a[1] == T_i32) && in->a[0] <= 7 ? FAST_CMP : FAST_NONE;
    case OP_V_ADD_CO_U32:
    case OP_V_ADD_CO_CI_U32:
    case OP_V_ADDC_CO_U32: return whole && (in->nsrc == 2 || in->src[2] < 128) ? FAST_ADD_CO : FAST_NONE;
    case OP_V_LSHLREV_B64: return whole ? FAST_LSHL64 : FAST_NONE;
    case OP_V_LSHL_ADD_U64: return whole && is_source(in->src[2]) && in->src[2] != 255 && in->src[0] != 255 ? FAST_LSHL_ADD64 : FAST_NONE;
    case OP_V_PK_FMA_F32:
    case OP_V_PK_MUL_F32:
    case OP_V_PK_ADD_F32: {
      u32 n = in->op == OP_V_PK_FMA_F32 ? 3 : 2, halves = (1u << n) - 1;
      if (!whole || in->neghi || (in->opselhi & halves) != halves) return FAST_NONE;
      for (u32 k = 0; k < n; k++)  // the low half's result must not be a source of the high half
        if (!is_source(in->src[k]) || in->src[k] + 1u == in->dst || in->src[k] == in->dst + 1u) return FAST_NONE;
      return FAST_PK_F32;
    }
  }
  return FAST_NONE;
}
static u32 memory_handler(const Insn *in) {
  enum { GLOBAL = 0, LDS = 3, TWO_ADDRESSES = 16 };
  if (in->op == OP_DS_BPERMUTE_B32) return FAST_BPERMUTE;
  if ((in->op != OP_LOAD && in->op != OP_STORE) || in->a[0] < 4) return FAST_NONE;
  if (in->a[2] == GLOBAL && !in->a[1]) return in->op == OP_LOAD ? FAST_LOAD_GLOBAL : FAST_STORE_GLOBAL;
  if (in->a[2] != LDS || in->a[1] & ~TWO_ADDRESSES) return FAST_NONE;
  if (in->op == OP_STORE) return in->a[1] ? FAST_NONE : FAST_STORE_LDS;
  // the first of two loads must not overwrite the address that the general handler would read for the second: it does not, both come first
  return FAST_LOAD_LDS;
}
static u32 scalar_handler(const Insn *in) {
  switch (in->op) {
    case OP_NOP:
#if defined(__x86_64__) || defined(__i386__)
      return FAST_NOP;
#else
      return FAST_NONE;  // waits and cache control order memory accesses between threads on hosts that reorder them
#endif
    case OP_S_BRANCH: return FAST_BRANCH;
    case OP_S_CBRANCH_SCC0: return FAST_SCC0;
    case OP_S_CBRANCH_SCC1: return FAST_SCC1;
    case OP_S_CBRANCH_VCCZ: return FAST_VCCZ;
    case OP_S_CBRANCH_VCCNZ: return FAST_VCCNZ;
    case OP_S_CBRANCH_EXECZ: return FAST_EXECZ;
    case OP_S_CBRANCH_EXECNZ: return FAST_EXECNZ;
  }
  return FAST_NONE;
}

// Choose the handlers of one instruction's n records (two for a dual instruction) after it was decoded.
void kgen_emu_prepare(Insn *in, u32 n, u32 specialise) {
  in->fast = in->spare = FAST_NONE;
  if (!specialise) return;
  switch (in->cls) {
    case CLS_S: in->fast = scalar_handler(in); break;
    case CLS_MEM: in->fast = memory_handler(in); break;
    case CLS_V:
      in->fast = valu_handler(in);
      if (!in->fast) in->fast = other_vector_handler(in);
      break;
    case CLS_VOPD:
      if (n != 2) break;
      in[0].spare = valu_handler(&in[0]);
      in[1].spare = valu_handler(&in[1]);
      in[1].fast = FAST_NONE;
      if (in[0].spare && in[1].spare && !reads(&in[1], in[0].dst) && in[0].dst != in[1].dst) in->fast = FAST_DUAL;
  }
}
