"""Names → frozen specs → encoders."""
