//! Scripts: their text, and which hooks they define.

use super::exchange::Direction;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// A script of the configuration. It was run once when the configuration was compiled; every worker runs it again when it
/// first needs it.
#[derive(Debug)]
pub(super) struct Script {
    /// Tells scripts apart within the process.
    pub id: u64,
    /// The text; without NUL.
    pub text: Box<str>,
    /// Patterns that go before the default search path of `require`, each with a semicolon behind it.
    pub path: Box<str>,
    /// The functions that it defines.
    pub hooks: Hooks,
}

/// The functions that a script defines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hooks {
    /// `envoy_on_request`.
    pub request: bool,
    /// `envoy_on_response`.
    pub response: bool,
}

impl Hooks {
    /// Whether there is a function for a direction.
    pub(super) fn has(self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.request,
            Direction::Response => self.response,
        }
    }
}

impl Script {
    /// A script with an id that no other has.
    pub(super) fn new(text: &str, path: &str, hooks: Hooks) -> Arc<Script> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Script { id: NEXT.fetch_add(1, Ordering::Relaxed), text: text.into(), path: path.into(), hooks })
    }
}

/// The hooks of all scripts that routes brought so far. A filter is made for a stream before it is known which script its
/// route wants, so every Lua filter has these hooks too. They only ever grow.
static OF_ROUTES: AtomicU8 = AtomicU8::new(0);

/// Adds the hooks of a route's script.
pub(super) fn add_route_hooks(hooks: Hooks) {
    OF_ROUTES.fetch_or(u8::from(hooks.request) | u8::from(hooks.response) << 1, Ordering::Relaxed);
}

/// The hooks of all scripts of routes.
pub(super) fn route_hooks() -> Hooks {
    let bits = OF_ROUTES.load(Ordering::Relaxed);
    Hooks { request: bits & 1 != 0, response: bits & 2 != 0 }
}
