"""Where training images come from, and pictures of drawn ones."""
