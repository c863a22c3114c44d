"""Is a kernel right? Accuracy rules, deterministic cases, and running them on a device or in the emulator."""
