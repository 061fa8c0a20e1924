"""Records of measured runs in, tables and plots out. No torch, and nothing of the other packages."""
