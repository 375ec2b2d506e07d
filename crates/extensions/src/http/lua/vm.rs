//! The virtual machine of a worker: its limits, its scripts, its coroutines, and its replacement when it is full.

use super::api;
use super::budget::{Budget, Clock, TOO_LONG};
use super::exchange::{Direction, Shared, Side};
use super::pattern::{Capture, PatternError, scan};
use super::script::{Hooks, Script};
use mlua::{Error, Function, IntoLuaMulti, Lua, LuaOptions, LuaString, MultiValue, StdLib, Table, Thread, Value};
use nuncio_filter::{Stream, Worker};
use nuncio_stats::names::LuaProcessStats;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Most bytes of one machine.
pub(super) const MEMORY_LIMIT: usize = 64 << 20;

/// A machine that holds more than this after garbage was collected is replaced.
const NEARLY_FULL: usize = MEMORY_LIMIT / 4 * 3;

/// A machine is replaced when this many coroutines in a row failed for want of memory.
const MEMORY_FAILURES: u32 = 3;

/// Finished coroutines that are kept to be used again.
const SPARE_THREADS: usize = 64;

/// The machine of a worker, made on first use; a service of the worker.
#[derive(Default)]
pub(super) struct Machines {
    current: RefCell<Option<Rc<Vm>>>,
    /// Calls under way that no script waits for.
    detached: Cell<usize>,
    clock: Clock,
}

/// Most calls of a worker that no script waits for.
const MAX_DETACHED: usize = 256;

/// A place among those calls.
pub(super) struct Detached(Rc<Machines>);

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.detached.set(self.0.detached.get() - 1);
    }
}

impl Machines {
    /// Machines whose time comes from elsewhere.
    #[cfg(test)]
    pub(super) fn with(clock: Clock) -> Machines {
        Machines { clock, ..Machines::default() }
    }

    /// The machine in use.
    pub(super) fn current(&self, now: Instant, process: &LuaProcessStats) -> Result<Rc<Vm>, Error> {
        if let Some(vm) = &*self.current.borrow()
            && !vm.worn.get()
        {
            return Ok(Rc::clone(vm));
        }
        let vm = Rc::new(Vm::new(now, self.clock.clone(), Some(process.clone()))?);
        if let Some(worn) = self.current.replace(Some(Rc::clone(&vm))) {
            tracing::warn!(target: "lua", "scripts filled {} bytes: their globals are given up", worn.lua.used_memory());
        }
        Ok(vm)
    }

    /// A place for a call that no script waits for, if there is one.
    pub(super) fn detach(self: &Rc<Self>) -> Option<Detached> {
        let detached = self.detached.get();
        (detached < MAX_DETACHED).then(|| {
            self.detached.set(detached + 1);
            Detached(Rc::clone(self))
        })
    }

    /// The machine of a worker.
    pub(super) fn of(worker: &Worker) -> Rc<Machines> {
        worker.services().get_or_insert_with(Machines::default)
    }
}

/// A virtual machine with the scripts that were run in it.
pub(super) struct Vm {
    lua: Lua,
    shared: Rc<Shared>,
    budget: Rc<Budget>,
    start: Function,
    sandbox: Function,
    scripts: RefCell<HashMap<u64, Loaded>>,
    spare: RefCell<Vec<Thread>>,
    memory_failures: Cell<u32>,
    worn: Cell<bool>,
    process: Option<LuaProcessStats>,
}

/// A script that was run.
struct Loaded {
    script: Weak<Script>,
    functions: Functions,
}

/// The functions of a script.
#[derive(Clone, Default)]
pub(super) struct Functions {
    /// `envoy_on_request`.
    pub request: Option<Function>,
    /// `envoy_on_response`.
    pub response: Option<Function>,
}

impl Functions {
    fn of(&self, direction: Direction) -> Option<Function> {
        match direction {
            Direction::Request => self.request.clone(),
            Direction::Response => self.response.clone(),
        }
    }
}

/// How a resume ended.
pub(super) enum Resumed {
    /// The coroutine is over.
    Finished,
    /// It waits.
    Waits,
    /// It failed.
    Failed(String),
}

impl Vm {
    /// A machine without scripts. `process`: where it is counted.
    pub(super) fn new(now: Instant, clock: Clock, process: Option<LuaProcessStats>) -> Result<Vm, Error> {
        let lua = Lua::new_with(StdLib::ALL_SAFE, LuaOptions::default())?;
        lua.load("jit.off()").exec()?;
        let budget = Rc::new(Budget::new(clock));
        let shared = Rc::new(Shared::new(now, Rc::clone(&budget)));
        let primitives = api::primitives(&lua, &shared)?;
        let start = lua.load(include_str!("handle.lua")).set_name("=[api]").call(primitives)?;
        let traceback = lua.create_function(|lua, message: Option<mlua::LuaString>| {
            let message = message.map(|message| message.to_string_lossy());
            lua.traceback(message.as_deref(), 1)
        })?;
        let counted = Rc::clone(&budget);
        let line = lua.create_function(move |_, bytes: f64| Ok(counted.line(bytes as usize)))?;
        let counted = Rc::clone(&budget);
        let charge = lua.create_function(move |lua, instructions: f64| counted.charge(lua, instructions as u32))?;
        guard_patterns(&lua, &budget, include_str!("patterns.lua"))?;
        let sandbox = lua.load(include_str!("sandbox.lua")).set_name("=[sandbox]").call((traceback, line, charge))?;
        // `getfenv` of a function from here would hand out what the sandbox leaves out.
        // LuaJIT's `print` looks for `tostring` there.
        let tostring: Function = lua.globals().get("tostring")?;
        lua.globals().clear()?;
        lua.globals().raw_set("tostring", tostring)?;
        lua.set_memory_limit(MEMORY_LIMIT)?;
        if let Some(process) = &process {
            process.lua_vm_count().inc();
        }
        let vm = Vm {
            lua,
            shared,
            budget,
            start,
            sandbox,
            scripts: RefCell::default(),
            spare: RefCell::default(),
            memory_failures: Cell::new(0),
            worn: Cell::new(false),
            process,
        };
        vm.budget.start(&vm.lua)?;
        Ok(vm)
    }

    /// Runs `run` with a full budget.
    fn budgeted<T>(&self, run: impl FnOnce() -> T) -> T {
        self.budget.fill();
        let result = run();
        if let Err(error) = self.budget.close(&self.lua) {
            tracing::error!(target: "lua", "the machine is replaced: {error}");
            self.worn.set(true);
        }
        result
    }

    /// A function of a script, which is run if it was not.
    pub(super) fn function(&self, script: &Arc<Script>, direction: Direction) -> Result<Option<Function>, String> {
        if let Some(loaded) = self.scripts.borrow().get(&script.id) {
            return Ok(loaded.functions.of(direction));
        }
        let functions = self.load(&script.text, &script.path);
        // A script that fails here, though it did not when it was configured, is not tried again for every request.
        let kept = functions.clone().unwrap_or_default();
        let mut scripts = self.scripts.borrow_mut();
        scripts.retain(|_, loaded| loaded.script.strong_count() > 0);
        scripts.insert(script.id, Loaded { script: Arc::downgrade(script), functions: kept });
        functions.map(|functions| functions.of(direction))
    }

    /// Runs a script in globals of its own.
    pub(super) fn load(&self, text: &str, path: &str) -> Result<Functions, String> {
        let load = || {
            let globals: Table = self.sandbox.call(path)?;
            self.lua
                .load(text)
                .set_name(text)
                .set_mode(mlua::chunk::ChunkMode::Text)
                .set_environment(globals.clone())
                .exec()?;
            let function = |name| match globals.get(name)? {
                mlua::Value::Function(function) => Ok(Some(function)),
                _ => Ok::<_, Error>(None),
            };
            Ok(Functions { request: function("envoy_on_request")?, response: function("envoy_on_response")? })
        };
        self.budgeted(load).map_err(|error| self.failure(&error))
    }

    /// Starts a coroutine that runs `function`. With how it went, the coroutine, unless it is over.
    pub(super) fn start(
        &self,
        function: &Function,
        stream: &mut Stream<'_>,
        side: &mut Side,
    ) -> (Resumed, Option<Thread>) {
        let spare = self.spare.borrow_mut().pop();
        let thread = match spare {
            Some(thread) => thread.reset(self.start.clone()).map(|()| thread),
            None => self.lua.create_thread(self.start.clone()),
        };
        match thread {
            Ok(thread) => self.resume(thread, function, stream, side),
            Err(error) => (Resumed::Failed(self.failure(&error)), None),
        }
    }

    /// Resumes a coroutine.
    pub(super) fn resume(
        &self,
        thread: Thread,
        arguments: impl IntoLuaMulti,
        stream: &mut Stream<'_>,
        side: &mut Side,
    ) -> (Resumed, Option<Thread>) {
        let resume = || self.budgeted(|| thread.resume::<()>(arguments));
        let resumed = self.shared.lend(stream, side, resume);
        self.look_at_memory();
        match resumed {
            Some(Ok(())) if thread.is_finished() => {
                self.memory_failures.set(0);
                let mut spare = self.spare.borrow_mut();
                if spare.len() < SPARE_THREADS {
                    spare.push(thread);
                }
                (Resumed::Finished, None)
            }
            Some(Ok(())) => (Resumed::Waits, Some(thread)),
            Some(Err(error)) => (Resumed::Failed(self.failure(&error)), None),
            None => (Resumed::Failed("a script runs already".to_owned()), None),
        }
    }

    /// The machine as such, for making values.
    pub(super) fn lua(&self) -> &Lua {
        &self.lua
    }

    /// Collects garbage before the limit is reached, which LuaJIT does not do by itself.
    fn look_at_memory(&self) {
        if self.lua.used_memory() > NEARLY_FULL {
            self.spare.borrow_mut().clear();
            let collected = self.lua.gc_collect();
            if collected.is_err() || self.lua.used_memory() > NEARLY_FULL {
                self.worn.set(true);
            }
        }
    }

    /// What a failure says; counts those for want of memory.
    pub(super) fn failure(&self, error: &Error) -> String {
        if is_memory(error) {
            self.memory_failures.set(self.memory_failures.get() + 1);
            if self.memory_failures.get() >= MEMORY_FAILURES {
                self.worn.set(true);
            }
        } else {
            self.memory_failures.set(0);
        }
        message(error)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            process.lua_vm_count().dec();
        }
    }
}

/// Puts functions that count their steps into the string library; `source` is `patterns.lua`.
pub(super) fn guard_patterns(lua: &Lua, budget: &Rc<Budget>, source: &str) -> Result<(), Error> {
    let string: Table = lua.globals().get("string")?;
    lua.load(source).set_name("=[string]").call((scanner(lua, budget)?, string))
}

/// The function behind `patterns.lua`: the start and the end of a match and its captures, nil without one, or false and why.
fn scanner(lua: &Lua, budget: &Rc<Budget>) -> Result<Function, Error> {
    let budget = Rc::clone(budget);
    lua.create_function(move |lua, (text, pattern, init, anchors): (LuaString, LuaString, f64, bool)| {
        budget.call(lua)?;
        let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
        let from = if init < 0.0 { (text.len() as f64 + init).max(0.0) } else { (init - 1.0).max(0.0) } as usize;
        let found = match scan(&text, &pattern, from, anchors, &budget.pattern_steps) {
            Ok(Some(found)) => found,
            Ok(None) => return (Value::Nil,).into_lua_multi(lua),
            Err(PatternError::Malformed(why)) => return (false, why).into_lua_multi(lua),
            Err(PatternError::TooLong) => return (false, TOO_LONG).into_lua_multi(lua),
        };
        let mut values = MultiValue::with_capacity(2 + found.captures.len());
        values.push_back(Value::Number((found.start + 1) as f64));
        values.push_back(Value::Number(found.end as f64));
        for capture in found.captures {
            values.push_back(match capture {
                Capture::Position(at) | Capture::Open(at) => Value::Number((at + 1) as f64),
                Capture::Part(start, end) => {
                    Value::String(lua.create_string(text.get(start..end).unwrap_or_default())?)
                }
            });
        }
        Ok(values)
    })
}

/// What LuaJIT says where memory ends.
const NO_MEMORY: &str = "not enough memory";

fn is_memory(error: &Error) -> bool {
    match error {
        Error::MemoryError(_) => true,
        Error::CallbackError { cause, .. } | Error::WithContext { cause, .. } => is_memory(cause),
        // What a script caught and raised again.
        Error::RuntimeError(text) => text.starts_with(NO_MEMORY),
        _ => false,
    }
}

/// The message as Envoy logs it: without the stack.
fn message(error: &Error) -> String {
    match error {
        Error::CallbackError { cause, .. } | Error::WithContext { cause, .. } => message(cause),
        Error::SyntaxError { message, .. } => message.clone(),
        Error::MemoryError(_) => NO_MEMORY.to_owned(),
        Error::RuntimeError(text) => {
            let end = text.find("\nstack traceback:").unwrap_or(text.len());
            text[..end].to_owned()
        }
        other => other.to_string(),
    }
}

/// Runs a script as every worker will, and says what it defines.
pub(super) fn check(text: &str, path: &str) -> Result<Hooks, String> {
    let now = tokio::time::Instant::now().into_std();
    let vm = Vm::new(now, Clock::default(), None).map_err(|error| message(&error))?;
    let functions = vm.load(text, path)?;
    Ok(Hooks { request: functions.request.is_some(), response: functions.response.is_some() })
}
