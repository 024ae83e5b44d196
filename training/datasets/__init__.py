"""Datasets: from files or packages to the one canonical form that everything after ingestion reads."""
