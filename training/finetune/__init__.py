"""Fine-tuning an in-house LLM on questions whose right answer is known. Importing this loads no model library."""
