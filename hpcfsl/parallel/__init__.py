"""Layer 3. What depends on there being several ranks: the only room that speaks to MPI."""
