// Any instruction in any form: the slow, complete half of the engine. run.c calls it for whatever has no specialised handler.
#include "access.h"
#include "scalar.h"
#include "vector.h"

// f32 denormal and rounding controls of MODE, put into the host's own control register for as long as a wave runs
void set_mode(const Wave *w) {
#if defined(__SSE__)
  static const u32 rc[4] = {0, 2, 1, 3};  // nearest, +inf, -inf, zero -> MXCSR.RC
  u32 x = __builtin_ia32_stmxcsr() & ~(0x8040u | 0x6000u);
  u32 dn = w->mode >> 4 & 3;
  if (!(dn & 1)) x |= 0x40;
  if (!(dn & 2)) x |= 0x8000;
  __builtin_ia32_ldmxcsr(x | rc[w->mode & 3] << 13);
#else
  (void)w;
#endif
}

int execute(Machine *m, Wave *w, const Insn *in) {
  switch (in->cls) {
    case CLS_S: return scalar(m, w, in);
    case CLS_V: return vector(m, w, in);
    case CLS_MEM: return memory(m, w, in);
    case CLS_VOPD: {  // both halves read before either writes
      const Insn *x = in, *y = &m->insns[in->pair];
      u32 old[64], result[64], *p = w->v[x->dst - 256];
      memcpy(old, p, sizeof old);
      int r = vector(m, w, x);
      memcpy(result, p, sizeof result);
      memcpy(p, old, sizeof old);
      if (!r) r = vector(m, w, y);
      LANES if (execm(w) >> l & 1) p[l] = result[l];
      return r;
    }
  }
  return -1;
}
