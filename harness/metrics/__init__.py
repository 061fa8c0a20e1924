"""Runs become scores: by ranx, each value checked by trec_eval."""
