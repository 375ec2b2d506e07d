//! Role-based access control: what the HTTP and the network filter share. Who may do what is compiled once ([`Engine`]);
//! asking is pure, and what can't be known of a request matches nothing.

mod engine;
mod input;
mod lower;
mod rule;
mod stats;
#[cfg(test)]
mod tests;

pub(crate) use engine::{Engine, Verdict, denied_by};
pub(crate) use lower::{Place, engine, matcher};
pub(crate) use rule::Subject;
pub(crate) use stats::PolicyStats;
