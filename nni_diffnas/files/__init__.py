"""Files of others, read with care: YAML, and the folders of diffusers pipelines."""
