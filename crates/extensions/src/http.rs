//! HTTP filters.
