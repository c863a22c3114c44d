static int RUN(Machine *m, Wave *w, i64 budget) {
  while (budget-- > 0) {
    u64 idx = (w->pc - m->code_base) >> 2;
    i32 k;
    if (w->pc < m->code_base || idx >= m->code_words || (k = m->pcmap[idx]) < 0) return ST_DECODE;
    const Insn *in = &m->insns[k];
    u64 pc = w->pc;
    w->pc += in->size;
    w->count++;
    int r = execute(m, w, in);
    if (r < 0) fail(m, E_UNSUPPORTED, 0, 0, 0);
    if (m->err) { w->pc = pc; w->count--; return ST_ERROR; }
    if (m->counts) m->counts[k]++;
    if (r > 0) return r - 1;
  }
  return ST_BUDGET;
}
