//! Per-stream facts, response flags and the access-log format compiler.
