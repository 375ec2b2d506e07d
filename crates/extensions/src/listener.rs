//! Listener filters.
