//! The compile contract: YAML and JSON with positions to an immutable snapshot.

pub mod compile;
pub mod diagnostics;
pub mod extension_names;
pub mod json;
pub mod lower;
pub mod overload;
pub mod snapshot;
pub mod source;
pub mod sources;
pub mod tls;
pub mod transcode;
pub mod tree;
pub mod validate;

pub use diagnostics::{Diagnostic, Diagnostics, FieldPath, Location, Severity};
pub use source::{Format, LoadOptions, Loaded, Positions, Source, load};
