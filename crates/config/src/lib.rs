//! The compile contract: YAML and JSON with positions to an immutable snapshot.
