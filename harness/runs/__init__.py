"""Configurations become records: searched, fused, scored, stored, and found again."""
