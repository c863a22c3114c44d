// One launch: what Python fills in, and what it reads back.
#ifndef KGEN_EMU_LAUNCH_H
#define KGEN_EMU_LAUNCH_H
#include "machine.h"

enum { ORDER_LINEAR, ORDER_REVERSE, ORDER_RANDOM };
enum { LAUNCH_DONE, LAUNCH_FAILED, LAUNCH_DECODE, LAUNCH_AGAIN };

typedef struct {
  u32 code, lane, size, aux;
  u64 addr, pc;
  u64 group;  // linear work-group number
  u32 wave, lds_size;
} Failure;

typedef struct {
  // the program and what it may touch
  u32 arch, fnuz;
  u64 code_base, code_words;
  const i32 *pcmap;
  const Insn *insns;
  const Region *regions;
  u32 nregions, ninsns;
  // the kernel
  u64 entry;
  u32 wave_size, vgprs, agprs, mode, lds_size, priv_size, dims, group_ids;  // group_ids: bit per x, y, z wanted in SGPRs
  u32 nuser, first_id, user[64];                                            // user SGPRs; group ids start at first_id
  // the launch
  u32 grid[3], block[3];
  u32 poison, races, count_ops, count_memory, order, threads;
  u64 concurrent, quantum, limit, seed;
  // results
  u64 instructions, waves, groups;
  Traffic traffic;
  Failure failure;
  u64 decode_pc;
  u64 *counts;  // ninsns sums, or NULL
  void *state;  // of the engine, between kgen_emu_run calls
} Launch;

// Runs until the grid is done, something failed, an instruction is not decoded yet (then: decode from decode_pc and call again), or for
// about half a second of work (then: call again; Python has had the chance to notice Ctrl-C).
int kgen_emu_run(Launch *launch);
void kgen_emu_end(Launch *launch);

#endif
