"""Reading rows piece by piece: each as it stands in its file, or the reason why it cannot be."""
