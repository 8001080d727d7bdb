"""Scripts that measure the cost of Concordant, and the page on performance made of their results."""
