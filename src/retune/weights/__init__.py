"""Other forms of a base's weights: quantized, merged, bundled, each proved against the first."""
