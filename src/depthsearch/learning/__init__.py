"""How networks are trained and spaces are searched: a loop for each, which a study drives epoch by epoch."""
