//! DNS discovery: keeps the hosts of `STRICT_DNS` and `LOGICAL_DNS` clusters equal to what their names resolve to.

mod resolver;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use resolver::Resolvers;
pub use resolver::SystemFiles;
pub(crate) use target::discover;
