"""RetroMAE and DupMAE: their settings, masking, model, and a step of pre-training."""
