"""Entry points that others' callers already know, routed to torch.ops.kgen. Each module names the project whose words it speaks."""
