"""The rule language (LANGUAGE.md): what rules are (syntax), how text becomes them (reader), what is refused (check),
and in what order rules are closed under (strata).
"""
