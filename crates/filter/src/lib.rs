//! The runtime contract: filter traits, factories, Step, Stream.
