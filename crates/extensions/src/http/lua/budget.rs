//! How much a script may do until it ends or waits: instructions, time, stack, steps of patterns, lines of log.

use mlua::{Error, HookTriggers, Lua, VmState};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Most instructions of one resume of a coroutine, and of loading a script: about 50 ms.
const MAX_INSTRUCTIONS: u32 = 10_000_000;

/// Longest time of the same.
pub(super) const MAX_TIME: Duration = Duration::from_millis(60);

/// As much at most counts between two looks at the clock: the thread may have had to wait for a processor.
const MAX_GAP: Duration = Duration::from_millis(25);

/// Most steps that patterns take during one resume: about 30 ms.
const MAX_PATTERN_STEPS: u64 = 10_000_000;

/// Instructions between two looks at the budget. Within as many, calls nest by some 20 KiB of the thread's stack at most.
const STRIDE: u32 = 100;

/// The same while a machine holds more than [`LARGE`]: texts and tables may be so large that one call takes milliseconds.
const FINE_STRIDE: u32 = 10;

/// When a machine is looked at more often, bytes.
const LARGE: usize = 8 << 20;

/// Calls of the API between two looks at the clock.
const CALLS: u32 = 4;

/// How much of the thread's stack a script may take, bytes: callbacks of `string.gsub`, `table.sort` and coroutines nest
/// there, without a limit of LuaJIT's own.
const MAX_STACK: usize = 256 << 10;

/// Most lines that a script writes to the log during one resume.
pub(super) const MAX_LINES: u32 = 1_000;

/// Most bytes of those lines.
const MAX_LINE_BYTES: usize = 1 << 20;

/// What an exhausted budget says.
pub(super) const TOO_LONG: &str = "script ran for too long";

/// What a script says whose calls nest too deeply.
const TOO_DEEP: &str = "stack overflow";

/// Where the time comes from.
#[derive(Clone)]
pub(super) struct Clock(Rc<dyn Fn() -> Instant>);

impl Clock {
    /// A clock that is asked in this way.
    #[cfg(test)]
    pub(super) fn new(now: impl Fn() -> Instant + 'static) -> Clock {
        Clock(Rc::new(now))
    }

    fn now(&self) -> Instant {
        (self.0)()
    }
}

impl Default for Clock {
    /// The clock of the system.
    fn default() -> Clock {
        Clock(Rc::new(Instant::now))
    }
}

/// How much a coroutine may still do until it ends or waits.
pub(super) struct Budget {
    clock: Clock,
    /// When the clock was looked at last.
    looked: Cell<Instant>,
    /// Time that is left.
    time: Cell<Duration>,
    /// Instructions that are left.
    left: Cell<u32>,
    /// Instructions between two looks.
    stride: Cell<u32>,
    /// Calls of the API since the clock was looked at.
    calls: Cell<u32>,
    /// Where the thread's stack was when the coroutine was entered.
    stack: Cell<usize>,
    /// Steps of patterns that are left.
    pub pattern_steps: Cell<u64>,
    /// Lines of log that are left, and their bytes.
    lines: Cell<(u32, usize)>,
    /// It was exceeded: every further instruction fails, so that a script can't go on by catching the error.
    spent: Cell<bool>,
}

impl Budget {
    pub(super) fn new(clock: Clock) -> Budget {
        Budget {
            looked: Cell::new(clock.now()),
            clock,
            time: Cell::default(),
            left: Cell::default(),
            stride: Cell::new(STRIDE),
            calls: Cell::default(),
            stack: Cell::default(),
            pattern_steps: Cell::default(),
            lines: Cell::default(),
            spent: Cell::default(),
        }
    }

    /// Fills it; a coroutine is entered.
    pub(super) fn fill(&self) {
        self.looked.set(self.clock.now());
        self.time.set(MAX_TIME);
        self.left.set(MAX_INSTRUCTIONS);
        self.stack.set(stack_position());
        self.pattern_steps.set(MAX_PATTERN_STEPS);
        self.lines.set((MAX_LINES, MAX_LINE_BYTES));
    }

    /// Ends what began with [`Budget::fill`].
    pub(super) fn close(self: &Rc<Self>, lua: &Lua) -> Result<(), Error> {
        if self.spent.replace(false) { self.watch(lua, STRIDE) } else { Ok(()) }
    }

    /// Looks at the budget from now on. LuaJIT has one hook for all coroutines.
    pub(super) fn start(self: &Rc<Self>, lua: &Lua) -> Result<(), Error> {
        self.watch(lua, STRIDE)
    }

    fn watch(self: &Rc<Self>, lua: &Lua, stride: u32) -> Result<(), Error> {
        self.stride.set(stride);
        let budget = Rc::clone(self);
        lua.set_global_hook(HookTriggers::new().every_nth_instruction(stride), move |lua, _| {
            budget.instructions(lua).map(|()| VmState::Continue)
        })
    }

    /// A stride of instructions was executed.
    fn instructions(self: &Rc<Self>, lua: &Lua) -> Result<(), Error> {
        self.charge(lua, self.stride.get())?;
        if self.stack.get().abs_diff(stack_position()) > MAX_STACK {
            return Err(Error::runtime(TOO_DEEP));
        }
        let stride = if lua.used_memory() > LARGE { FINE_STRIDE } else { STRIDE };
        if stride == self.stride.get() { Ok(()) } else { self.watch(lua, stride) }
    }

    /// Takes the work of so many instructions from the budget, and looks at the clock.
    pub(super) fn charge(self: &Rc<Self>, lua: &Lua, instructions: u32) -> Result<(), Error> {
        let now = self.clock.now();
        let gap = now.saturating_duration_since(self.looked.replace(now)).min(MAX_GAP);
        let time = self.time.get().saturating_sub(gap);
        let left = self.left.get().saturating_sub(instructions);
        self.time.set(time);
        self.left.set(left);
        self.calls.set(0);
        if left > 0 && !time.is_zero() && !self.spent.get() {
            return Ok(());
        }
        if !self.spent.replace(true) {
            self.watch(lua, 1)?;
        }
        Err(Error::runtime(TOO_LONG))
    }

    /// A function of the API is called.
    pub(super) fn call(self: &Rc<Self>, lua: &Lua) -> Result<(), Error> {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() < CALLS { Ok(()) } else { self.charge(lua, CALLS) }
    }

    /// A function of the API works on so many bytes; each takes a quarter of an instruction's time.
    pub(super) fn bytes(self: &Rc<Self>, lua: &Lua, bytes: usize) -> Result<(), Error> {
        self.charge(lua, u32::try_from(bytes / 4).unwrap_or(u32::MAX))
    }

    /// A line is written to the log; says if that is too much.
    pub(super) fn line(&self, bytes: usize) -> Option<String> {
        let (lines, left) = self.lines.get();
        if lines == 0 || bytes > left {
            return Some(format!(
                "script logs more than {MAX_LINES} lines or {MAX_LINE_BYTES} bytes without ending or waiting"
            ));
        }
        self.lines.set((lines - 1, left - bytes));
        None
    }
}

/// The address of something on the stack.
#[inline(never)]
fn stack_position() -> usize {
    let here = 0u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}
