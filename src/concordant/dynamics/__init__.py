"""Training dynamics: gradients, conflicts, probes and stability, recorded while a model trains."""
