//! The Common Expression Language (cel.dev) over the facts of a stream, as Envoy evaluates it.
//!
//! Owns: expressions, their text form, evaluation, and Envoy's attributes (`request.path`, `source.address`, `metadata`, …).
//! Does not own: the protobuf form, and what a result means.
//!
//! As in Envoy there are no comprehensions (`all`, `exists`, `map`, `filter`), and what could make values larger than what
//! they are made of (concatenation, conversion to text, `replace`) must be allowed by [`Options`]. So evaluating takes time and
//! memory in proportion to the expression and to what it looks at.
//!
//! *Invariant*: evaluating never panics, never loops, and recurses no deeper than an expression may be ([`MAX_DEPTH`]).

mod attributes;
mod eval;
mod expr;
mod functions;
mod parse;
#[cfg(test)]
mod tests;
mod value;

pub use eval::{EvalError, Scope};
pub use expr::{Expr, InvalidExpression, MAX_DEPTH, Options, Program};
pub use value::{Object, Value};
