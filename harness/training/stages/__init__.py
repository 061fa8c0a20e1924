"""The kinds of training stages, one module each: its settings, its checks, its words in a plan, and its run.

The modules are imported to read a recipe, so what needs torch is imported inside `run`.
"""
