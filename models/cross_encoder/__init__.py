"""Query and passage read together: the teacher of distillation, and re-ranking."""
