//! Listener manager, workers, admin endpoints, and the composition root.
//!
//! Owns: putting the parts together, the life of the process, and what its operator sees. Does not own: what happens on
//! a connection once its filter chain is chosen.

mod admin;
mod compile;
mod drain;
mod hot_restart;
mod lifecycle;
mod listener;
mod listener_manager;
mod load_reports;
mod logging;
mod options;
mod overload;
mod run;
mod secrets;
mod state;
mod supervise;
mod watchdog;
mod worker;
mod xds;

pub use admin::help as admin_help;
pub use options::{DrainStrategy, Mode, Options, Output};
pub use run::run;
