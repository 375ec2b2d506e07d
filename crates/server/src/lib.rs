//! Listener manager, workers, admin endpoints, and the composition root.
