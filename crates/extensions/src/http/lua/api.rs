//! The primitives behind the objects of `handle.lua`.
//!
//! They are called with arguments of the right type, and say what is wrong by returning the text: the Lua side raises it
//! with the position of the script's call. An `Err` from here is for what should not happen.

mod body;
mod call;
mod headers;
mod info;
mod metadata;
pub(super) mod stats;
mod text;

use super::exchange::{NotLent, Parts, Shared, State};
use mlua::{Error, FromLuaMulti, IntoLuaMulti, Lua, Table};
use std::rc::Rc;

pub(super) use call::{failure_response, response_values};

/// What an object says that is used while its coroutine does not run.
const OUT_OF_SCOPE: &str = "object used outside of proper scope";

/// What a coroutine says that waits already: a coroutine of its own called for something else.
const WAITS: &str = "script performed an unexpected yield";

impl From<NotLent> for Error {
    fn from(_: NotLent) -> Error {
        Error::runtime(OUT_OF_SCOPE)
    }
}

/// The table that primitives are put into.
struct Primitives<'a> {
    lua: &'a Lua,
    table: Table,
    shared: &'a Rc<Shared>,
}

impl Primitives<'_> {
    /// Adds a primitive that works on the lent stream.
    fn add<A: FromLuaMulti, R: IntoLuaMulti>(
        &self,
        name: &str,
        call: impl Fn(&Lua, &mut Parts, A) -> Result<R, Error> + 'static,
    ) -> Result<(), Error> {
        let shared = Rc::clone(self.shared);
        let function = self.lua.create_function(move |lua, arguments: A| {
            shared.budget.call(lua)?;
            shared.with(|parts| call(lua, parts, arguments))?
        })?;
        self.table.raw_set(name, function)
    }

    /// Adds a primitive that needs no stream.
    fn free<A: FromLuaMulti, R: IntoLuaMulti>(
        &self,
        name: &str,
        call: impl Fn(&Lua, A) -> Result<R, Error> + 'static,
    ) -> Result<(), Error> {
        self.table.raw_set(name, self.lua.create_function(call)?)
    }
}

/// All primitives.
pub(super) fn primitives(lua: &Lua, shared: &Rc<Shared>) -> Result<Table, Error> {
    let primitives = Primitives { lua, table: lua.create_table()?, shared };
    headers::add(&primitives)?;
    body::add(&primitives)?;
    call::add(&primitives)?;
    info::add(&primitives)?;
    metadata::add(&primitives)?;
    stats::add(&primitives)?;
    text::add(&primitives)?;
    Ok(primitives.table)
}

/// Says once per machine that a function has no effect.
fn tell_once(shared: &Shared, bit: u8, function: &str) {
    let told = shared.told.get();
    if told & bit == 0 {
        shared.told.set(told | bit);
        tracing::warn!(target: "lua", "{function} is not supported yet and has no effect");
    }
}

/// Begins to wait, if nothing is waited for.
fn wait_for(parts: &mut Parts, state: State) -> bool {
    let idle = parts.side.state == State::Running;
    if idle {
        parts.side.state = state;
    }
    idle
}

/// What one coroutine may write to headers and metadata, bytes. Maps keep what was replaced, so this bounds their memory.
const MAX_WRITTEN: usize = 4 << 20;

/// What one entry costs beside its text, bytes.
const ENTRY: usize = 64;

/// Counts what a script writes; says if it is too much.
fn charge(parts: &mut Parts, bytes: usize) -> Option<String> {
    let written = parts.side.written.saturating_add(bytes).saturating_add(ENTRY);
    if written > MAX_WRITTEN {
        return Some(format!("script writes more than {MAX_WRITTEN} bytes of headers and metadata"));
    }
    parts.side.written = written;
    None
}
