// Small kernels for the emulated HIP runtime; no header, like kgen's own templates.
#define GLOBAL extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, 256)))
#define GROUP_X __builtin_amdgcn_workgroup_id_x()
#define LANE_X __builtin_amdgcn_workitem_id_x()
#define BARRIER                                             \
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");    \
  __builtin_amdgcn_s_barrier();                             \
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup")
typedef unsigned u32;

extern "C" __attribute__((device)) __attribute__((used)) u32 calls[4] = {1, 2, 3, 4};

GLOBAL void scale(float *data, float factor, int n) {
  int i = (int)(GROUP_X * 256 + LANE_X);
  if (i < n) data[i] *= factor;
}

GLOBAL void add(const float *a, const float *b, float *out, int n) {
  int i = (int)(GROUP_X * 256 + LANE_X);
  if (i < n) out[i] = a[i] + b[i];
}

GLOBAL void nothing() {}

GLOBAL void mixed(unsigned char *out, char c, double d, short s, long l) {
  if (LANE_X == 0) *(double *)out = d + c + s + (double)l;
}

GLOBAL void overrun(float *data, int n) { data[GROUP_X * 256 + LANE_X] = (float)n; }

GLOBAL void racy(u32 *out) {
  static __attribute__((shared)) u32 shared[256];
  shared[LANE_X] = LANE_X;
  out[LANE_X] = shared[(LANE_X + 64) & 255];
}

GLOBAL void big_lds(u32 *out) {
  static __attribute__((shared)) u32 shared[8192];
  shared[LANE_X] = LANE_X;
  BARRIER;
  out[LANE_X] = shared[255 - LANE_X];
}

GLOBAL void endless(u32 *out) {
  while (__atomic_load_n(out, __ATOMIC_RELAXED) == 0) __builtin_amdgcn_s_sleep(1);
}

GLOBAL void traps(u32 *out) {
  if (out) __builtin_trap();
}

// Split-K in one launch: every group adds its part of the dot product to the workspace, the last one writes the sum and re-arms it.
GLOBAL void split_dot(const float *a, const float *b, float *out, float *parts, u32 *arrived, int n) {
  static __attribute__((shared)) float lanes[256];
  u32 groups = (u32)(n + 255) / 256, g = GROUP_X, lane = LANE_X;
  int i = (int)(g * 256 + lane);
  lanes[lane] = i < n ? a[i] * b[i] : 0.0f;
  BARRIER;
  if (lane == 0) {
    float sum = 0;
    for (u32 k = 0; k < 256; k++) sum += lanes[k];
    parts[g] = sum;
    if (__atomic_fetch_add(arrived, 1u, __ATOMIC_ACQ_REL) + 1 == groups) {
      float all = 0;
      for (u32 k = 0; k < groups; k++) all += parts[k];
      *out = all;
      __atomic_store_n(arrived, 0u, __ATOMIC_RELEASE);
    }
  }
}
