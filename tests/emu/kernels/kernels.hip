// Everything the emulator is tested with; one code object per target.
#include "prelude.h"

#include "lanes.hip"
#include "matrix.hip"
#include "arithmetic.hip"
#include "memory.hip"
