"""4-bit weights of other programs' checkpoints in the kernels' layout, and back, bit for bit. See docs/packing.md.

`pack_awq`, `pack_gptq`, `pack_compressed_tensors`, `pack_bitsandbytes` and `pack_uint4` take one layer's tensors; `kgen.ops.pack.checkpoint` takes
a folder.
"""

from kgen.ops.pack.awq import pack_awq as pack_awq
from kgen.ops.pack.awq import unpack_awq as unpack_awq
from kgen.ops.pack.bitsandbytes import PackedCodes4 as PackedCodes4
from kgen.ops.pack.bitsandbytes import pack_bitsandbytes as pack_bitsandbytes
from kgen.ops.pack.bitsandbytes import unpack_bitsandbytes as unpack_bitsandbytes
from kgen.ops.pack.compressed_tensors import pack_compressed_tensors as pack_compressed_tensors
from kgen.ops.pack.compressed_tensors import unpack_compressed_tensors as unpack_compressed_tensors
from kgen.ops.pack.gptq import pack_gptq as pack_gptq
from kgen.ops.pack.gptq import unpack_gptq as unpack_gptq
from kgen.ops.pack.layout import PackedW4 as PackedW4
from kgen.ops.pack.layout import dequantise as dequantise
from kgen.ops.pack.layout import validate as validate
from kgen.ops.pack.raw import pack_uint4 as pack_uint4
from kgen.ops.pack.raw import pack_uint4_pairs as pack_uint4_pairs
from kgen.ops.pack.raw import unpack_uint4 as unpack_uint4
from kgen.ops.pack.raw import unpack_uint4_pairs as unpack_uint4_pairs
