"""The evaluation of the ranking: run, table, HTML and the record of runs."""
