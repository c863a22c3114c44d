"""torch.ops.kgen.*: importing this registers the ops; `kgen.load()` gives them kernels. See docs/runtime.md.

y = torch.ops.kgen.wvsplitk(x, weight, bias)      # x [..., K], weight [M, K] -> [..., M]
"""

from kgen.ops import schema as schema
from kgen.ops import schema_moe as schema_moe
