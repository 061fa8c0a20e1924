"""A GPU that is none: `python …/pretended_cuda/pretend.py -m pytest …` runs a module where torch has one."""
