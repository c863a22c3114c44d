// Data shared by every part of the engine; structs.py mirrors the records that cross into Python.
#ifndef KGEN_EMU_MACHINE_H
#define KGEN_EMU_MACHINE_H
#include "platform.h"
#include "ops.h"  // generated when the engine is built: one OP_ constant per operation name written in these files

enum { RDNA3, RDNA4, CDNA };
// why a wave stopped running
enum { ST_END, ST_BARRIER, ST_YIELD, ST_BUDGET, ST_DECODE, ST_ERROR };
// error codes (the messages are in failure.py)
enum {
  E_NONE,
  E_UNSUPPORTED,
  E_MEM_READ,
  E_MEM_WRITE,
  E_LDS,
  E_SCRATCH,
  E_TRAP,
  E_MODIFIER,
  E_WMMA_DUP,
  E_RACE,
  E_ALIGN,
  E_LIMIT,
  E_NO_MEMORY
};
enum { CLS_S, CLS_V, CLS_MEM, CLS_VOPD, CLS_BAD };

typedef struct {
  u16 op, dst, sdst, src[3];  // operand codes: 0-255 scalar or inline constant, 256-511 VGPR, 512-767 AccVGPR
  u8 cls, size, neg, abs, neghi, opsel, opselhi, omod;
  u8 clamp, dpp, row_mask, bank_mask, bc, fi, sdwa, dsel;
  u8 dun, sel0, sel1, sext, ret, keep16, nsrc, flags;
  u32 lit, dpparg;
  i32 imm, pair;
  u8 a[12];         // parameters of the operation, see the decoder
  u32 fast, spare;  // which specialised handler may run it, 0 = none (set by prepare() from the fields above)
} Insn;

typedef struct {
  u64 base, size;
  u8 *host;
  u64 reach;
  u32 flags, id;
} Region;  // sorted by base; reach: highest end so far; flags: 1 = writable
// who touched an LDS byte since the last barrier
typedef struct {
  u32 wepoch, repoch;
  u16 wwave, rwave;
  u8 atomic, readers, pad[2];
} Shadow;

typedef struct {
  u32 s[128];
  u32 scc, mode, ws, wave_id;
  u64 pc, count, wmask;
  u32 hwid, priv_size;
  u8 *scratch;
  u64 scratch_stride;
  u8 *lds;
  u32 lds_size, gpridx;  // gpridx: CDNA register indexing, 16 | VSRC0, VSRC1, VSRC2, VDST enables
  Shadow *shadow;
  u64 epoch;                                         // only when LDS races are looked for; epoch counts barriers
  u32 v[512 + 32][64] __attribute__((aligned(64)));  // VGPRs, AccVGPRs, and room for wide operands of code that is none
} Wave;

// Memory traffic of a thread, in the units of `Stats`
typedef struct {
  u64 loaded, stored, lines64, lines128, accesses, lds_accesses, lds_passes, lds_conflicts;
} Traffic;

// What one thread needs to execute instructions
typedef struct {
  u32 arch, fnuz;
  u64 code_base, code_words;
  const i32 *pcmap;
  const Insn *insns;
  const Region *regions;
  u32 nregions, last;
  u32 err, err_lane;
  u64 err_addr;
  u32 err_size, err_aux;
  u64 *counts;       // executed wave instructions by decoded instruction, or NULL
  Traffic *traffic;  // or NULL
} Machine;

#define W w->ws
#define LANES for (u32 l = 0; l < W; l++)
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

// A run stops at the first thing that went wrong; later ones would only be its consequences.
static inline void fail(Machine *m, u32 code, u32 lane, u64 addr, u32 size) {
  if (m->err) return;
  m->err = code;
  m->err_lane = lane;
  m->err_addr = addr;
  m->err_size = size;
}
static inline u64 execm(const Wave *w) { return W == 64 ? (u64)w->s[126] | (u64)w->s[127] << 32 : w->s[126]; }

// generic.c: any instruction, any modifier. 0 = done, -1 = not known, 1 + status = leave the loop
int execute(Machine *m, Wave *w, const Insn *in);
void set_mode(const Wave *w);
// matrix.c
void mfma(Machine *m, Wave *w, const Insn *in);
void wmma(Machine *m, Wave *w, const Insn *in);
// run.c
int run_wave(Machine *m, Wave *w, i64 budget);

#endif
