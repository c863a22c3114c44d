// Matrix instructions.
// ------------------------------------------------------------------ (d) matrix instructions: A row-major [M][K], B as [N][K], D row-major [M][N]
#define L ((int)threadIdx.x)
#define OUT16(i, l) d[(4 * ((l) / 16) + (i)) * 16 + (l) % 16]
#define OUT32(i, l) d[(8 * ((i) / 4) + 4 * ((l) / 32) + (i) % 4) * 32 + (l) % 32]
#if G11
#define OUTW(i) d[(2 * (i) + L / 16) * 16 + L % 16]
#define OPERAND(p) p[L % 16]
K void wmma_bf(const s16v* a, const s16v* b, const float* ci, float* d) {
  f8 c; for (int i = 0; i < 8; i++) c[i] = ci[&OUTW(i) - d];
  c = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(OPERAND(a), OPERAND(b), c);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
K void wmma_h(const h16v* a, const h16v* b, float* d) {
  f8 c = {}; c = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(OPERAND(a), OPERAND(b), c);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
K void wmma_hh(const h16v* a, const h16v* b, _Float16* d) {
  h16v c = {}; c = __builtin_amdgcn_wmma_f16_16x16x16_f16_w32(OPERAND(a), OPERAND(b), c, false);
  for (int i = 0; i < 8; i++) OUTW(i) = c[2 * i];
}
K void wmma_i8(const i4* a, const i4* b, int* d) {
  i8 c = {}; c = __builtin_amdgcn_wmma_i32_16x16x16_iu8_w32(true, OPERAND(a), false, OPERAND(b), c, false);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
K void wmma_i4(const i2* a, const i2* b, int* d) {
  i8 c = {}; c = __builtin_amdgcn_wmma_i32_16x16x16_iu4_w32(true, OPERAND(a), false, OPERAND(b), c, false);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
K void wmma_dup(const s16v* a, const s16v* b, float* d) {     // wrong on purpose: upper lanes hold other data
  f8 c = {}; c = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(a[(L + L / 16) % 16], OPERAND(b), c);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
#elif G12
#define OUTW(i) d[(8 * (L / 16) + (i)) * 16 + L % 16]
#define OPERAND(p) p[(L % 16) * 2 + L / 16]
K void wmma_bf(const s8v* a, const s8v* b, const float* ci, float* d) {
  f8 c; for (int i = 0; i < 8; i++) c[i] = ci[&OUTW(i) - d];
  c = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(OPERAND(a), OPERAND(b), c);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
K void wmma_h(const h8v* a, const h8v* b, float* d) {
  f8 c = {}; c = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12(OPERAND(a), OPERAND(b), c);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
K void wmma_hh(const h8v* a, const h8v* b, _Float16* d) {
  h8v c = {}; c = __builtin_amdgcn_wmma_f16_16x16x16_f16_w32_gfx12(OPERAND(a), OPERAND(b), c);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
K void wmma_i8(const i2* a, const i2* b, int* d) {
  i8 c = {}; c = __builtin_amdgcn_wmma_i32_16x16x16_iu8_w32_gfx12(true, OPERAND(a), false, OPERAND(b), c, false);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
K void wmma_i4(const int* a, const int* b, int* d) {
  i8 c = {}; c = __builtin_amdgcn_wmma_i32_16x16x16_iu4_w32_gfx12(true, OPERAND(a), false, OPERAND(b), c, false);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
K void wmma_f8(const i2* a, const i2* b, float* d) {
  f8 c = {}; c = __builtin_amdgcn_wmma_f32_16x16x16_fp8_fp8_w32_gfx12(OPERAND(a), OPERAND(b), c);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
K void wmma_b8(const i2* a, const i2* b, float* d) {
  f8 c = {}; c = __builtin_amdgcn_wmma_f32_16x16x16_fp8_bf8_w32_gfx12(OPERAND(a), OPERAND(b), c);
  for (int i = 0; i < 8; i++) OUTW(i) = c[i];
}
#else
K void mfma_16_bf(const s4* a, const s4* b, float* d) {
  f4 c = {}; c = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a[(L % 16) * 4 + L / 16], b[(L % 16) * 4 + L / 16], c, 0, 0, 0);
  for (int i = 0; i < 4; i++) OUT16(i, L) = c[i];
}
K void mfma_16_h(const h4v* a, const h4v* b, const float* ci, float* d) {
  f4 c; for (int i = 0; i < 4; i++) c[i] = ci[&OUT16(i, L) - d];
  c = __builtin_amdgcn_mfma_f32_16x16x16f16(a[(L % 16) * 4 + L / 16], b[(L % 16) * 4 + L / 16], c, 0, 0, 0);
  for (int i = 0; i < 4; i++) OUT16(i, L) = c[i];
}
K void mfma_32_h(const h4v* a, const h4v* b, float* d) {
  f16v c = {}; c = __builtin_amdgcn_mfma_f32_32x32x8f16(a[(L % 32) * 2 + L / 32], b[(L % 32) * 2 + L / 32], c, 0, 0, 0);
  for (int i = 0; i < 16; i++) OUT32(i, L) = c[i];
}
K void mfma_16_f8(const long* a, const long* b, float* d) {
  f4 c = {}; c = __builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8(a[(L % 16) * 4 + L / 16], b[(L % 16) * 4 + L / 16], c, 0, 0, 0);
  for (int i = 0; i < 4; i++) OUT16(i, L) = c[i];
}
K void mfma_32_f8(const long* a, const long* b, float* d) {
  f16v c = {}; c = __builtin_amdgcn_mfma_f32_32x32x16_fp8_fp8(a[(L % 32) * 2 + L / 32], b[(L % 32) * 2 + L / 32], c, 0, 0, 0);
  for (int i = 0; i < 16; i++) OUT32(i, L) = c[i];
}
K void mfma_16_b8(const long* a, const long* b, float* d) {
  f4 c = {}; c = __builtin_amdgcn_mfma_f32_16x16x32_bf8_fp8(a[(L % 16) * 4 + L / 16], b[(L % 16) * 4 + L / 16], c, 0, 0, 0);
  for (int i = 0; i < 4; i++) OUT16(i, L) = c[i];
}
K void mfma_i8(const long* a, const long* b, int* d) {
  i4 c = {}; c = __builtin_amdgcn_mfma_i32_16x16x32_i8(a[(L % 16) * 4 + L / 16], b[(L % 16) * 4 + L / 16], c, 0, 0, 0);
  for (int i = 0; i < 4; i++) OUT16(i, L) = c[i];
}
K void mfma_4x4(const s4* a, const s4* b, float* d) {          // 16 independent 4x4 blocks
  f4 c = {}; c = __builtin_amdgcn_mfma_f32_4x4x4bf16_1k(a[L], b[L], c, 0, 0, 0);
  for (int i = 0; i < 4; i++) d[(L / 4) * 16 + i * 4 + L % 4] = c[i];
}
K void mfma_f32(const float* a, const float* b, float* d) {    // 16x16x4 f32
  f4 c = {}; c = __builtin_amdgcn_mfma_f32_16x16x4f32(a[(L % 16) * 4 + L / 16], b[(L % 16) * 4 + L / 16], c, 0, 0, 0);
  for (int i = 0; i < 4; i++) OUT16(i, L) = c[i];
}
K void mfma_agpr(const s4* a, const s4* b, float* d) {         // accumulate in AccVGPRs
  f16v c;
  asm volatile("v_accvgpr_write_b32 a0, 0\n v_accvgpr_write_b32 a1, 0\n v_accvgpr_write_b32 a2, 0\n v_accvgpr_write_b32 a3, 0\n s_nop 4\n"
               "v_mfma_f32_16x16x16_bf16 a[0:3], %4, %5, a[0:3]\n s_nop 15\n s_nop 15\n"
               "v_accvgpr_read_b32 %0, a0\n v_accvgpr_read_b32 %1, a1\n v_accvgpr_read_b32 %2, a2\n v_accvgpr_read_b32 %3, a3\n"
               : "=&v"(c[0]), "=&v"(c[1]), "=&v"(c[2]), "=&v"(c[3]) : "v"(a[(L % 16) * 4 + L / 16]), "v"(b[(L % 16) * 4 + L / 16]) : "a0", "a1", "a2", "a3");
  for (int i = 0; i < 4; i++) OUT16(i, L) = c[i];
}
K void gll(const u32* a, u32* o) {                             // global_load_lds_dword
  extern __shared__ u32 s[];
  int t = threadIdx.x, w = __builtin_amdgcn_readfirstlane(t / 64);
  __builtin_amdgcn_global_load_lds((__attribute__((address_space(1))) u32*)(a + (t * 5) % 256), (__attribute__((address_space(3))) u32*)(s + w * 64), 4, 0, 0);
  __builtin_amdgcn_s_waitcnt(0);
  __syncthreads();
  o[t] = s[(t + 1) % 256];
}
#endif
#if defined(__gfx950__)
K void mfma_16x32_bf(const bf8v* a, const bf8v* b, float* d) {
  f4 c = {}; c = __builtin_amdgcn_mfma_f32_16x16x32_bf16(a[(L % 16) * 4 + L / 16], b[(L % 16) * 4 + L / 16], c, 0, 0, 0);
  for (int i = 0; i < 4; i++) OUT16(i, L) = c[i];
}
K void mfma_32x16_bf(const bf8v* a, const bf8v* b, float* d) {
  f16v c = {}; c = __builtin_amdgcn_mfma_f32_32x32x16_bf16(a[(L % 32) * 2 + L / 32], b[(L % 32) * 2 + L / 32], c, 0, 0, 0);
  for (int i = 0; i < 16; i++) OUT32(i, L) = c[i];
}
K void mfma_f8f6f4(const i8* a, const i8* b, float* d) {
  f4 c = {}; c = __builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(a[(L % 16) * 4 + L / 16], b[(L % 16) * 4 + L / 16], c, 0, 0, 0, 0x7f7f7f7f, 0, 0x7f7f7f7f);
  for (int i = 0; i < 4; i++) OUT16(i, L) = c[i];
}
K void mfma_scale(const i8* a, const i8* b, const int* sa, const int* sb, float* d) {
  f4 c = {}; c = __builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(a[(L % 16) * 4 + L / 16], b[(L % 16) * 4 + L / 16], c, 0, 0, 0, sa[L], 0, sb[L]);
  for (int i = 0; i < 4; i++) OUT16(i, L) = c[i];
}
K void gll16(const u4* a, u4* o) {                             // global_load_lds_dwordx4
  extern __shared__ u4 s4x[];
  int t = threadIdx.x, w = __builtin_amdgcn_readfirstlane(t / 64);
  __builtin_amdgcn_global_load_lds((__attribute__((address_space(1))) u32*)(a + (t * 5) % 256), (__attribute__((address_space(3))) u32*)(s4x + w * 64), 16, 0, 0);
  __builtin_amdgcn_s_waitcnt(0);
  __syncthreads();
  o[t] = s4x[(t + 1) % 256];
}
K void swaps(const u32* a, u32* o) {
  int t = threadIdx.x, n = blockDim.x;
  auto p = __builtin_amdgcn_permlane32_swap(a[t], a[t + n], false, false);
  auto q = __builtin_amdgcn_permlane16_swap(a[t], a[t + n], false, false);
  o[t] = p[0]; o[n + t] = p[1]; o[2 * n + t] = q[0]; o[3 * n + t] = q[1];
}
#endif

