"""Methods of adapting a model: what each puts on it, saves, loads, counts and refuses."""
