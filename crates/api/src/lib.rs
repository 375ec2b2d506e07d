//! Envoy v3 message types and the schema tables of their fields.
