"""What the three trainers share: device and precision, compiled steps, progress, timing."""
