// Memory instructions: global, flat, scratch and LDS loads, stores and atomics; buffers; lane permutes through the LDS hardware.
#ifndef KGEN_EMU_ACCESS_H
#define KGEN_EMU_ACCESS_H
#include "arithmetic.h"

// a[] of loads and stores: 0 bytes per element, 1 flags (1 sign extend, 2 d16 low, 4 d16 high, 8 to LDS, 16 two addresses,
// 32 no vaddr/SVE off, 64 64-bit lane address), 2 address space (0 global 1 flat 2 scratch 3 LDS), 3 two-address scale
enum { AS_GLOBAL, AS_FLAT, AS_SCRATCH, AS_LDS };
static u64 lane_addr(Machine *m, Wave *w, const Insn *in, u32 l) {
  u32 va = in->src[0] - 256;
  switch (in->a[2]) {
    case AS_LDS: return w->v[va][l];
    case AS_SCRATCH: {
      u64 a = (u64)(i64)in->imm;
      if (!(in->a[1] & 32)) a += w->v[va][l];
      if (in->src[1] < 124) a += (u64)(i64)(i32)w->s[in->src[1]];
      return a;
    }
  }
  if (in->src[1] < 124) return ((u64)w->s[in->src[1]] | (u64)w->s[in->src[1] + 1] << 32) + w->v[va][l] + (u64)(i64)in->imm;
  return ((u64)w->v[va][l] | (u64)w->v[va + 1][l] << 32) + (u64)(i64)in->imm;
}
static u8 *resolve(Machine *m, Wave *w, int as, u64 a, u32 n, int wr, u32 l) {
  if (as == AS_FLAT) {
    u32 hi = (u32)(a >> 32);
    as = hi == APERTURE_SHARED ? AS_LDS : hi == APERTURE_PRIVATE ? AS_SCRATCH : AS_GLOBAL;
    if (as != AS_GLOBAL) a = (u32)a;
  }
  return as == AS_GLOBAL ? gmem(m, a, n, wr, l) : as == AS_LDS ? lmem(m, w, (u32)a, n, l, wr) : pmem(m, w, a, n, l);
}
// Traffic of a whole wave instruction, from its lane addresses. Flat accesses count as global ones unless they go through an aperture.
static void note_access(Machine *m, const Insn *in, const u64 *ad, u64 ex, int wr) {
  u64 at[64];
  u64 lds = 0, global = 0;
  u32 n = in->a[0];
  int two = (in->op == OP_LOAD || in->op == OP_STORE) && in->a[1] & 16;
  if (in->a[2] == AS_SCRATCH) return;
  for (u64 todo = ex; todo; todo &= todo - 1) {
    u32 l = (u32)__builtin_ctzll(todo);
    if (in->a[2] == AS_LDS) {
      at[l] = (u32)(ad[l] + (two ? ((u32)in->imm & 255) * n * in->a[3] : (u16)in->imm));
      lds |= 1ull << l;
    } else if (in->a[2] == AS_FLAT && ad[l] >> 32 == APERTURE_SHARED) {
      at[l] = (u32)ad[l];
      lds |= 1ull << l;
    } else if (in->a[2] != AS_FLAT || ad[l] >> 32 != APERTURE_PRIVATE) {
      at[l] = ad[l];
      global |= 1ull << l;
    }
  }
  count_global(m, at, global, n, wr);
  if (!lds) return;
  count_lds(m, at, lds, n);
  if (!two) return;
  for (u64 todo = lds; todo; todo &= todo - 1) {
    u32 l = (u32)__builtin_ctzll(todo);
    at[l] = (u32)ad[l] + ((u32)in->imm >> 8 & 255) * n * in->a[3];
  }
  count_lds(m, at, lds, n);
}
static void note_lanes(Machine *m, Wave *w, const Insn *in, u64 ex, int wr) {
  u64 ad[64];
  LANES if (ex >> l & 1) ad[l] = lane_addr(m, w, in, l);
  note_access(m, in, ad, ex, wr);
}
static void load_value(Wave *w, const Insn *in, u32 dst, u32 l, const u8 *p) {
  u32 n = in->a[0], f = in->a[1];
  u32 *r = &w->v[dst - 256][l];
  if (n >= 4) {
    for (u32 i = 0; i < n / 4; i++) memcpy(&w->v[dst - 256 + i][l], p + 4 * i, 4);
    return;
  }
  u32 v = n == 1 ? p[0] : (u32)p[0] | (u32)p[1] << 8;
  if (f & 1) v = n == 1 ? (u32)(i32)(i8)v : (u32)(i32)(i16)v;
  if (f & 2) *r = (*r & 0xffff0000u) | (v & 0xffff);
  else if (f & 4) *r = (*r & 0xffff) | v << 16;
  else *r = v;
}
static void mem_load(Machine *m, Wave *w, const Insn *in) {
  u64 ex = execm(w);
  u64 ad[64];
  LANES if (ex >> l & 1) ad[l] = lane_addr(m, w, in, l);
  if (m->traffic) note_access(m, in, ad, ex, 0);
  if (in->a[1] & 8) {  // straight to LDS: base in M0, lanes at consecutive elements
    u32 m0 = w->s[m->arch == CDNA ? 124 : 125], step = in->a[0] < 4 ? 4 : in->a[0];
    LANES if (ex >> l & 1) {
      u8 *p = gmem(m, ad[l], in->a[0], 0, l), *q = lmem(m, w, (m0 & 0x3ffff) + (u32)in->imm + l * step, step, l, 1);
      if (!p || !q) return;
      // the instruction offset was added to both sides, as the ISA does
      u32 v = 0;
      if (in->a[0] >= 4) memcpy(q, p, in->a[0]);
      else {
        v = in->a[0] == 1 ? p[0] : (u32)p[0] | (u32)p[1] << 8;
        if (in->a[1] & 1) v = in->a[0] == 1 ? (u32)(i32)(i8)v : (u32)(i32)(i16)v;
        memcpy(q, &v, 4);
      }
    }
    return;
  }
  if (in->a[1] & 16) {  // DS two-address form
    u32 n = in->a[0], o0 = ((u32)in->imm & 255) * n * in->a[3], o1 = ((u32)in->imm >> 8 & 255) * n * in->a[3];
    LANES if (ex >> l & 1) {
      u8 *p = lmem(m, w, (u32)ad[l] + o0, n, l, 0), *q = lmem(m, w, (u32)ad[l] + o1, n, l, 0);
      if (!p || !q) return;
      load_value(w, in, in->dst, l, p);
      load_value(w, in, in->dst + n / 4, l, q);
    }
    return;
  }
  LANES if (ex >> l & 1) {
    u64 a = ad[l] + (in->a[2] == AS_LDS ? (u64)(u16)in->imm : 0);
    if (in->a[2] == AS_LDS) a = (u32)a;
    u8 *p = resolve(m, w, in->a[2], a, in->a[0], 0, l);
    if (!p) return;
    load_value(w, in, in->dst, l, p);
  }
}
static void store_value(Wave *w, const Insn *in, u32 data, u32 l, u8 *p) {
  u32 n = in->a[0];
  if (n >= 4) {
    for (u32 i = 0; i < n / 4; i++) memcpy(p + 4 * i, &w->v[data - 256 + i][l], 4);
    return;
  }
  u32 v = w->v[data - 256][l] >> (in->a[1] & 4 ? 16 : 0);
  p[0] = (u8)v;
  if (n == 2) p[1] = (u8)(v >> 8);
}
static int store_to(Machine *m, Wave *w, const Insn *in, int as, u64 a, u32 data, u32 l) {
  u8 t[16], *p = resolve(m, w, as, a, in->a[0], w->shadow ? 3 : 1, l);
  if (!p) return 0;
  if (w->shadow) {
    store_value(w, in, data, l, t);
    if (memcmp(p, t, in->a[0]) && !resolve(m, w, as, a, in->a[0], 1, l)) return 0;
  }
  store_value(w, in, data, l, p);
  return 1;
}
static void mem_store(Machine *m, Wave *w, const Insn *in) {
  u64 ex = execm(w);
  if (m->traffic) note_lanes(m, w, in, ex, 1);
  if (in->a[1] & 16) {
    u32 n = in->a[0], o0 = ((u32)in->imm & 255) * n * in->a[3], o1 = ((u32)in->imm >> 8 & 255) * n * in->a[3];
    LANES if (ex >> l & 1) {
      u32 a = (u32)lane_addr(m, w, in, l);
      if (!store_to(m, w, in, AS_LDS, (u32)(a + o0), in->dst, l) || !store_to(m, w, in, AS_LDS, (u32)(a + o1), in->sdst, l)) return;
    }
    return;
  }
  LANES if (ex >> l & 1) {
    u64 a = lane_addr(m, w, in, l);
    if (in->a[2] == AS_LDS) a = (u32)(a + (u16)in->imm);
    if (!store_to(m, w, in, in->a[2], a, in->dst, l)) return;
  }
}
// atomics: a = {bytes, operation, address space}; data register in src[2] (second one in sdst), result in dst when ret
enum {
  A_SWAP,
  A_CMPSWAP,
  A_ADD,
  A_SUB,
  A_RSUB,
  A_SMIN,
  A_UMIN,
  A_SMAX,
  A_UMAX,
  A_AND,
  A_OR,
  A_XOR,
  A_INC,
  A_DEC,
  A_FADD,
  A_FMIN,
  A_FMAX,
  A_PKF16,
  A_PKBF16,
  A_SUBCLAMP,
  A_CONDSUB,
  A_MSKOR,
  A_FCMPSWAP
};
static u64 atomic_val(u32 op, u32 n, u64 old, u64 x, u64 y) {
  i64 so = n == 8 ? (i64)old : (i64)(i32)old, sx = n == 8 ? (i64)x : (i64)(i32)x;
  switch (op) {
    case A_SWAP: return x;
    case A_CMPSWAP: return old == y ? x : old;
    case A_FCMPSWAP: return (n == 4 ? bf((u32)old) == bf((u32)y) : bd(old) == bd(y)) ? x : old;
    case A_ADD: return old + x;
    case A_SUB: return old - x;
    case A_RSUB: return x - old;
    case A_SMIN: return so < sx ? old : x;
    case A_SMAX: return so > sx ? old : x;
    case A_UMIN: return old < x ? old : x;
    case A_UMAX: return old > x ? old : x;
    case A_AND: return old & x;
    case A_OR: return old | x;
    case A_XOR: return old ^ x;
    case A_INC: return old >= x ? 0 : old + 1;
    case A_DEC: return old == 0 || old > x ? x : old - 1;
    case A_FADD: return n == 4 ? fb(bf((u32)old) + bf((u32)x)) : db(bd(old) + bd(x));
    case A_FMIN: return n == 4 ? fb((float)fmin_(bf((u32)old), bf((u32)x))) : db(fmin_(bd(old), bd(x)));
    case A_FMAX: return n == 4 ? fb((float)fmax_(bf((u32)old), bf((u32)x))) : db(fmax_(bd(old), bd(x)));
    case A_PKF16: return d2h((double)h2f((u16)old) + h2f((u16)x)) | (u32)d2h((double)h2f((u16)(old >> 16)) + h2f((u16)(x >> 16))) << 16;
    case A_PKBF16: return f2b(b2f((u16)old) + b2f((u16)x)) | (u32)f2b(b2f((u16)(old >> 16)) + b2f((u16)(x >> 16))) << 16;
    case A_SUBCLAMP: return old < x ? 0 : old - x;
    case A_CONDSUB: return old >= x ? old - x : old;
    case A_MSKOR: return (old & ~x) | y;
  }
  return old;
}
// Apply an atomic operation to n bytes at p; returns the old value. Other work-groups may run on other threads, so it is one on the host too.
static u64 atomic_update(u8 *p, u32 op, u32 n, u64 x, u64 y) {
  if (n == 8) {
    u64 old = __atomic_load_n((u64 *)p, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n((u64 *)p, &old, atomic_val(op, 8, old, x, y), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {}
    return old;
  }
  u32 old = __atomic_load_n((u32 *)p, __ATOMIC_SEQ_CST);
  while (!__atomic_compare_exchange_n((u32 *)p, &old, (u32)atomic_val(op, 4, old, x, y), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {}
  return old;
}
static void mem_atomic(Machine *m, Wave *w, const Insn *in) {
  u64 ex = execm(w);
  u32 n = in->a[0];
  if (m->traffic) note_lanes(m, w, in, ex, 1);
  LANES if (ex >> l & 1) {
    u64 a = lane_addr(m, w, in, l), old, x = 0, y = 0;
    if (in->a[2] == AS_LDS) a = (u32)(a + (u16)in->imm);
    if (a % n) {
      fail(m, E_ALIGN, l, a, n);
      return;
    }
    u8 *p = resolve(m, w, in->a[2], a, n, ACCESS_ATOMIC, l);
    if (!p) return;
    u32 r = in->src[2] - 256, q = in->sdst ? in->sdst - 256u : r;
    x = w->v[r][l];
    y = w->v[q][l];
    if (n == 8) {
      x |= (u64)w->v[r + 1][l] << 32;
      y |= (u64)w->v[q + 1][l] << 32;
    }
    old = atomic_update(p, in->a[1], n, x, y);
    if (in->ret) {
      w->v[in->dst - 256][l] = (u32)old;
      if (n == 8) w->v[in->dst - 255][l] = (u32)(old >> 32);
    }
  }
}
// buffer instructions: src[0] vaddr, src[1] V# sgpr, src[2] soffset; a = {bytes, flags as above, kind 0 load 1 store 2 atomic, offen|idxen<<1, atomic op}
static void buffer_op(Machine *m, Wave *w, const Insn *in) {
  u32 *d = &w->s[in->src[1]];
  u64 base = ((u64)d[0] | (u64)d[1] << 32) & 0xffffffffffffull, ex = execm(w);
  u32 stride = d[1] >> 16 & 0x3fff, num = d[2], n = in->a[0];
  u32 soff = (u32)sread(m, w, in, in->src[2], T_u32);
  if (d[1] >> 30 || (m->arch == CDNA && d[3] >> 23 & 1)) {
    fail(m, E_MODIFIER, 0, d[1], 2);
    return;
  }  // swizzled / add-tid buffers
  u64 at[64], touched = 0;
  LANES if (ex >> l & 1) {
    u32 va = in->src[0] - 256, idx = 0, off = (u32)in->imm;
    if (in->a[3] & 2) idx = w->v[va++][l];
    if (in->a[3] & 1) off += w->v[va][l];
    for (u32 i = 0; i < (n < 4 ? 1 : n / 4); i++) {
      u32 sz = n < 4 ? n : 4, o = off + 4 * i;
      // structured buffers count records, raw ones bytes (soffset takes part on CDNA, RDNA checks the offset alone)
      u64 chk = (u64)o + (m->arch == CDNA ? soff : 0) + sz;
      int oob = stride && (in->a[3] & 2) ? (idx >= num || (u64)o + sz > stride) : chk > num;
      u8 *p = NULL;
      if (!oob) {
        p = gmem(m, base + soff + (u64)idx * stride + o, sz, in->a[2] != 0, l);
        if (!p) return;
      }
      if (p && m->traffic && i == 0) {
        at[l] = base + soff + (u64)idx * stride + o;
        touched |= 1ull << l;
      }
      if (in->a[2] == 0) {
        u8 z[4] = {0};
        if (p) memcpy(z, p, sz);
        if (in->a[1] & 8) {
          u8 *q = lmem(m, w, (w->s[124] & 0x3ffff) + (u32)in->imm + l * MAX(n, 4u) + 4 * i, 4, l, 1);
          if (!q) return;
          memcpy(q, z, 4);
          continue;
        }
        Insn t = *in;
        t.a[0] = (u8)sz;
        load_value(w, &t, in->dst + i, l, z);
      } else if (in->a[2] == 1) {
        if (p) {
          Insn t = *in;
          t.a[0] = (u8)sz;
          store_value(w, &t, in->dst + i, l, p);
        }
      } else {
        u64 old = 0, x = w->v[in->dst - 256][l], y = w->v[in->dst - 255][l];
        if (n == 8) {
          if (i) break;
          x |= y << 32;
          y = w->v[in->dst - 254][l] | (u64)w->v[in->dst - 253][l] << 32;
          if (p) p = gmem(m, base + soff + (u64)idx * stride + o, 8, 1, l);
        }
        if (p && m->err == E_NONE) old = atomic_update(p, in->a[4], n, x, y);
        if (in->ret) {
          w->v[in->dst - 256][l] = (u32)old;
          if (n == 8) w->v[in->dst - 255][l] = (u32)(old >> 32);
        }
        break;
      }
    }
  }
  if (m->traffic) count_global(m, at, touched, n, in->a[2] != 0);
}

static int memory(Machine *m, Wave *w, const Insn *in) {
  u64 ex = execm(w);
  switch (in->op) {
    case OP_LOAD: mem_load(m, w, in); break;
    case OP_STORE: mem_store(m, w, in); break;
    case OP_ATOMIC: mem_atomic(m, w, in); break;
    case OP_BUFFER: buffer_op(m, w, in); break;
    case OP_DS_BPERMUTE_B32:
    case OP_DS_PERMUTE_B32: {  // dst, src[0] = address, src[2] = data
      u32 t[64] = {0};
      if (in->op == OP_DS_BPERMUTE_B32) LANES {
          u32 s = (w->v[in->src[0] - 256][l] + (u32)in->imm) / 4 % W;
          if (ex >> s & 1) t[l] = w->v[in->src[2] - 256][s];
        }
      else LANES if (ex >> l & 1) t[(w->v[in->src[0] - 256][l] + (u32)in->imm) / 4 % W] = w->v[in->src[2] - 256][l];
      LANES if (ex >> l & 1) w->v[in->dst - 256][l] = t[l];
    } break;
    case OP_DS_SWIZZLE_B32: {
      u32 t[64], o = (u32)in->imm & 0xffff;
      LANES {
        u32 s;
        if (o >= 0xe000) {
          u32 mk = o & 31;
          s = brev32(l & 31) >> 27;
          s = s >> __builtin_popcount(mk);
          s |= l & mk;
          s |= l & 32;
        } else if (o >= 0xc000) {
          u32 r = o >> 5 & 31, mk = o & 31;
          s = o & 0x400 ? (l & mk) | ((l - r) & ~mk) : (l & mk) | ((l + r) & ~mk);
          s = (s & 31) | (l & 32);
        } else if (o & 0x8000) s = (l & ~3u) + (o >> 2 * (l & 3) & 3);
        else s = (l & 32) | (((((l & 31) & (o & 31)) | (o >> 5 & 31)) ^ (o >> 10 & 31)) & 31);
        t[l] = ex >> s & 1 ? w->v[in->src[0] - 256][s] : 0;
      }
      LANES if (ex >> l & 1) w->v[in->dst - 256][l] = t[l];
    } break;
    default: return -1;
  }
  return 0;
}

#endif
