"""Conversations in, corpus out: recipes, stages, filters, dedup, report, the command."""
