"""What `concordant.attach` is made of: taps, layouts, random numbers, and the passes through the model."""
