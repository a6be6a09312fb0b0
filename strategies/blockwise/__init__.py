"""Search a teacher's blocks one by one, choose among their fronts, retrain what was chosen."""
