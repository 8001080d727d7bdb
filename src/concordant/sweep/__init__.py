"""Many experiments as one: a grid of trials, handed to as many machines as there are."""
