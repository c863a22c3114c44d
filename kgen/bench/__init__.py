"""What things cost: builds, kernels beside what a user would pick instead, launches."""
