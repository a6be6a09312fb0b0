"""The doors into NNI: its tuner, its NAS engine, one process; and what NNI 3.0 needs mended."""
