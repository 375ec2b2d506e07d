//! Lowering, from configurations to snapshots.
