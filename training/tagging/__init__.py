"""Certified tagging, offline: gold, evidence, models, certificate and their evaluation."""
