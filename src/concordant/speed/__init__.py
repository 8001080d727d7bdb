"""What things cost, as ratios measured side by side: time and bandwidth of calibrators on this machine."""
