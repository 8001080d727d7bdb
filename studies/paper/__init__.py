"""The study of the paper: a grid of benchmarks, fusions and calibrators, run and evaluated by one command.

grid.py is what is run; search.py chooses recipes on validation data; run.py goes through the cells; stress.py evaluates
every trained model under every condition; outcomes.py reads the answers; tables.py makes one table per question;
cells.py stores them; findings.py, pages.py and figures.py make what is read.
"""
