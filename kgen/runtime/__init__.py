"""Load built kernels on the device that is here and launch them: drivers, libraries, sessions. See docs/runtime.md."""
