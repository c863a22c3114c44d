// Vector ALU instructions, any operand form and modifier.
#ifndef KGEN_EMU_VECTOR_H
#define KGEN_EMU_VECTOR_H
#include "vector_float.h"
#include "vector_integer.h"
#include "vector_mixed.h"

// Execute the vector instruction `in`. Returns 0, or -1 when the operation is not known.
static int valu(Machine *m, Wave *w, const Insn *in) {
  w->wmask = execm(w);
  int r = valu_integer(m, w, in);
  if (r < 0) r = valu_float(m, w, in);
  return r < 0 ? valu_mixed(m, w, in) : r;
}

static int vector(Machine *m, Wave *w, const Insn *in) {
  if (!w->gpridx) return valu(m, w, in);
  Insn q = *in;
  u32 i = w->s[124] & 255;  // CDNA: M0[7:0] is added to the enabled VGPR operands
  for (int k = 0; k < 3; k++)
    if (w->gpridx >> k & 1 && q.src[k] >= 256) q.src[k] += i;
  if (w->gpridx & 8 && q.dst >= 256) q.dst += i;
  for (int k = 0; k < 4; k++) {
    u32 c = k < 3 ? q.src[k] : q.dst, o = k < 3 ? in->src[k] : in->dst;
    if (o >= 256 && o < 512 && c > 511) {
      fail(m, E_MODIFIER, 0, i, 3);
      return 0;
    }
  }
  return valu(m, w, &q);
}

#endif
