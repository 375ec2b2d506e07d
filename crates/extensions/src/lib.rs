//! One directory per Envoy extension, and the registry that lists them.
