"""Scripts that make the results of this repository: tables, figures and the study of the paper."""
