"""The proof: one grid of benchmarks, fusions and calibrators, asked one question a table, by one command.

grid.py says what is run, searching.py chooses recipes on validation data, training.py trains, stressing.py asks every
trained model everything once, outcomes.py reads what they said, questions/ makes a table of each question, summary.py
and page.py say what came of it. `making.py` is all of it in order.
"""
