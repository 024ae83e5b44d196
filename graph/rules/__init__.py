"""The rule language: what rules are (syntax), how text becomes them (reader), and what is refused (check)."""
