//! Ordered header multi-map over one arena, and the well-known names.
