//! Running scripts as messages pass: which script, and what the filter chain is told when one waits.

use super::exchange::{Direction, Side, State};
use super::run::{CallDone, Outcome, Run};
use super::script::{Script, route_hooks};
use super::vm::{Machines, Vm};
use bytes::{Bytes, BytesMut};
use nuncio_filter::{
    Chunk, ClientRequest, Completed, DataStep, End, HttpClientHandle, HttpFilter, HttpFilterFactory, Interest,
    LocalReply, Step, Stream, Worker,
};
use nuncio_stats::Scope;
use nuncio_stats::names::{LuaProcessStats, LuaStats};
use nuncio_stream_info::{Struct, details};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// What a filter was configured with.
pub(super) struct LuaConfig {
    /// Tells configurations apart within the process.
    pub id: u64,
    /// The script where a route names no other.
    pub default: Option<Arc<Script>>,
    /// The scripts that routes may name.
    pub named: HashMap<String, Arc<Script>>,
    /// `filter_context`, where a route has none.
    pub context: Option<Arc<Struct>>,
    /// Changing request headers makes the route be looked up again.
    pub clear_route_cache: bool,
    pub stats: LuaStats,
    pub process: LuaProcessStats,
    /// Where statistics that scripts make go.
    pub scope: Scope,
    /// Names of statistics that scripts made.
    pub stat_names: Mutex<HashSet<Box<[u8]>>>,
}

/// What a route says.
pub(super) struct LuaRoute {
    /// No script runs.
    pub disabled: bool,
    /// Which script runs.
    pub source: Source,
    /// `filter_context`.
    pub context: Option<Arc<Struct>>,
}

/// Which script a route wants.
pub(super) enum Source {
    /// The filter's default.
    Default,
    /// One of the filter's named ones.
    Named(Box<str>),
    /// Its own.
    Own(Arc<Script>),
}

/// Makes filters.
pub(super) struct LuaFactory {
    pub config: Arc<LuaConfig>,
    pub interest: Interest,
}

/// The hooks that scripts with these functions need.
pub(super) fn interest(hooks: super::script::Hooks) -> Interest {
    let mut interest = Interest::NONE;
    if hooks.request {
        interest = interest.and(Interest::REQUEST_HEADERS).and(Interest::REQUEST_BODY);
    }
    if hooks.response {
        interest = interest.and(Interest::RESPONSE_HEADERS).and(Interest::RESPONSE_BODY);
    }
    interest
}

impl HttpFilterFactory for LuaFactory {
    fn create(&self, worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        let (config, machines) = (Arc::clone(&self.config), Machines::of(worker));
        Box::new(LuaFilter { config, machines, request: None, response: None })
    }

    fn interest(&self) -> Interest {
        self.interest.and(interest(route_hooks()))
    }
}

/// The scripts of one stream.
pub(super) struct LuaFilter {
    config: Arc<LuaConfig>,
    machines: Rc<Machines>,
    request: Option<Box<Run>>,
    response: Option<Box<Run>>,
}

impl HttpFilter for LuaFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, end: End) -> Step {
        self.headers(stream, Direction::Request, end)
    }

    fn request_data(&mut self, stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        self.data(stream, Direction::Request, data, end)
    }

    fn request_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        self.trailers(stream, Direction::Request)
    }

    fn response_headers(&mut self, stream: &mut Stream<'_>, end: End) -> Step {
        self.headers(stream, Direction::Response, end)
    }

    fn response_data(&mut self, stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        self.data(stream, Direction::Response, data, end)
    }

    fn response_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        self.trailers(stream, Direction::Response)
    }

    fn resume(&mut self, stream: &mut Stream<'_>, done: Completed) -> Step {
        let Ok(done) = done.take::<CallDone>() else { return Step::Next };
        let Some(mut run) = self.slot(done.direction).take() else { return Step::Next };
        let outcome = run.answer(&done, stream);
        match self.settle(stream, *run, outcome) {
            Settled::Over => Step::Next,
            // As in Envoy the message goes on with its next part.
            Settled::Waits => Step::Hold,
            Settled::Call(work) => Step::Await(work),
            Settled::Reply(reply) => Step::Reply(reply),
        }
    }

    fn finish(&mut self, _: &mut Stream<'_>) {
        (self.request, self.response) = (None, None);
    }
}

/// What a filter does after its script stopped.
enum Settled {
    /// Let the message pass.
    Over,
    /// The script waits for a part of the message.
    Waits,
    /// Wait for a call of the script.
    Call(nuncio_filter::Work),
    /// Answer.
    Reply(Box<LocalReply>),
}

impl LuaFilter {
    fn slot(&mut self, direction: Direction) -> &mut Option<Box<Run>> {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    /// The script of the stream's route, and its context.
    fn choose(&self, stream: &mut Stream<'_>) -> Option<(Arc<Script>, Option<Arc<Struct>>)> {
        let config = &self.config;
        let Some(route) = stream.per_route::<LuaRoute>() else {
            return Some((Arc::clone(config.default.as_ref()?), config.context.clone()));
        };
        if route.disabled {
            return None;
        }
        let script = match &route.source {
            Source::Default => config.default.as_ref(),
            Source::Named(name) => config.named.get(&**name),
            Source::Own(script) => Some(script),
        };
        Some((Arc::clone(script?), route.context.as_ref().or(config.context.as_ref()).cloned()))
    }

    /// The machine, and the function of a script for a direction.
    fn function(
        &self,
        stream: &Stream<'_>,
        script: &Arc<Script>,
        direction: Direction,
    ) -> Result<Option<(Rc<Vm>, mlua::Function)>, String> {
        let vm = self.machines.current(stream.worker.now(), &self.config.process).map_err(|error| error.to_string())?;
        let function = vm.function(script, direction)?;
        Ok(function.map(|function| (vm, function)))
    }

    fn headers(&mut self, stream: &mut Stream<'_>, direction: Direction, end: End) -> Step {
        let Some((script, context)) = self.choose(stream) else { return Step::Next };
        if !script.hooks.has(direction) {
            return Step::Next;
        }
        let (vm, function) = match self.function(stream, &script, direction) {
            Ok(Some(found)) => found,
            Ok(None) => return Step::Next,
            Err(message) => {
                self.failed(&message);
                return Step::Next;
            }
        };
        self.config.stats.executions().inc();
        let config = Some(Arc::clone(&self.config));
        let side = Side { direction, ended: end.is_last(), headers_open: true, config, context, ..Side::default() };
        let mut run = Run::new(vm, side);
        let outcome = run.start(&function, stream);
        match self.settle(stream, run, outcome) {
            Settled::Over => Step::Next,
            Settled::Waits if self.holds(direction) => Step::Hold,
            Settled::Waits => self.pass(direction, Step::Next),
            Settled::Call(work) => Step::Await(work),
            Settled::Reply(reply) => Step::Reply(reply),
        }
    }

    fn data(&mut self, stream: &mut Stream<'_>, direction: Direction, data: &mut Chunk, end: End) -> DataStep {
        let Some(mut run) = self.slot(direction).take() else { return DataStep::Next };
        run.side.saw_body = true;
        run.side.ended = end.is_last();
        match run.side.state {
            State::Body if end.is_last() => self.whole_body(stream, run, data),
            State::Body => {
                *self.slot(direction) = Some(run);
                DataStep::Buffer
            }
            State::Chunk => {
                run.side.chunk = data.take();
                let outcome = run.resume(true, stream);
                data.replace(std::mem::take(&mut run.side.chunk));
                self.data_step(stream, *run, outcome)
            }
            State::Trailers if end.is_last() => {
                let outcome = run.resume((), stream);
                self.data_step(stream, *run, outcome)
            }
            _ => {
                *self.slot(direction) = Some(run);
                self.pass(direction, DataStep::Next)
            }
        }
    }

    /// The body that the script waited for is complete with this chunk.
    fn whole_body(&mut self, stream: &mut Stream<'_>, mut run: Box<Run>, data: &mut Chunk) -> DataStep {
        let direction = run.side.direction;
        let limit = stream.state.buffer_limit;
        let held = held(stream, direction);
        held.extend_from_slice(&data.take());
        if held.len() > limit {
            held.clear();
            return DataStep::Reply(too_large(direction));
        }
        let outcome = run.resume((), stream);
        data.replace(self::held(stream, direction).split().freeze());
        self.data_step(stream, *run, outcome)
    }

    fn data_step(&mut self, stream: &mut Stream<'_>, run: Run, outcome: Outcome) -> DataStep {
        let direction = run.side.direction;
        match self.settle(stream, run, outcome) {
            Settled::Over => DataStep::Next,
            Settled::Waits => self.pass(direction, DataStep::Next),
            Settled::Call(work) => DataStep::Await(work),
            Settled::Reply(reply) => DataStep::Reply(reply),
        }
    }

    fn trailers(&mut self, stream: &mut Stream<'_>, direction: Direction) -> Step {
        let Some(mut run) = self.slot(direction).take() else { return Step::Next };
        run.side.ended = true;
        run.side.has_trailers = true;
        let outcome = match run.side.state {
            State::Chunk => run.resume(false, stream),
            _ => run.resume((), stream),
        };
        match self.settle(stream, *run, outcome) {
            Settled::Over | Settled::Waits => Step::Next,
            Settled::Call(work) => Step::Await(work),
            Settled::Reply(reply) => Step::Reply(reply),
        }
    }

    /// Whether the script that waits has the headers held.
    fn holds(&self, direction: Direction) -> bool {
        let run = match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        };
        run.as_ref().is_some_and(|run| run.side.state == State::Body)
    }

    /// The headers go on: the script can't change them any more.
    fn pass<T>(&mut self, direction: Direction, step: T) -> T {
        if let Some(run) = self.slot(direction) {
            run.side.headers_open = false;
        }
        step
    }

    /// Does what every stop of a script calls for, and keeps the coroutine if it waits.
    fn settle(&mut self, stream: &mut Stream<'_>, mut run: Run, outcome: Outcome) -> Settled {
        for request in run.side.detached.drain(..) {
            self.machines.send_detached(stream.worker, request);
        }
        let direction = run.side.direction;
        match outcome {
            Outcome::Over => add_body(stream, &run.side),
            Outcome::Failed(message) => {
                self.failed(&message);
                add_body(stream, &run.side);
            }
            Outcome::Reply(reply) => {
                held(stream, direction).clear();
                return Settled::Reply(reply);
            }
            Outcome::Waits => {
                *self.slot(direction) = Some(Box::new(run));
                return Settled::Waits;
            }
            Outcome::Call(work) => {
                *self.slot(direction) = Some(Box::new(run));
                return Settled::Call(work);
            }
        }
        Settled::Over
    }

    fn failed(&self, message: &str) {
        self.config.stats.errors().inc();
        tracing::error!(target: "lua", "script log: {message}");
    }
}

impl Machines {
    /// Sends a request whose answer nobody waits for; it outlives the stream.
    fn send_detached(self: &Rc<Self>, worker: &Rc<Worker>, request: ClientRequest) {
        let Some(client) = worker.services().get::<HttpClientHandle>() else { return };
        let Some(place) = self.detach() else {
            tracing::warn!(target: "lua", "too many asynchronous http calls: one to {} is not made", request.cluster);
            return;
        };
        let response = client.0.send(request);
        tokio::task::spawn_local(async move {
            // Whether it succeeds is nobody's concern: the script asked not to be told.
            let _ = response.await;
            drop(place);
        });
    }
}

fn held<'a>(stream: &'a mut Stream<'_>, direction: Direction) -> &'a mut BytesMut {
    match direction {
        Direction::Request => &mut stream.state.request_body,
        Direction::Response => &mut stream.state.response_body,
    }
}

/// Gives a message that came without a body the one that the script made.
fn add_body(stream: &mut Stream<'_>, side: &Side) {
    if side.saw_body || !side.body_changed {
        return;
    }
    let body = held(stream, side.direction).split().freeze();
    if side.has_trailers {
        tracing::warn!(target: "lua", "a script gave a body to a message of headers and trailers: it is dropped");
        return;
    }
    match side.direction {
        Direction::Request => stream.add_request_body(body),
        Direction::Response => stream.add_response_body(body),
    }
}

/// What the filter chain answers where a body outgrows its buffer.
fn too_large(direction: Direction) -> Box<LocalReply> {
    match direction {
        Direction::Request => {
            LocalReply::new(413, Bytes::from_static(b"Payload Too Large"), details::REQUEST_PAYLOAD_TOO_LARGE)
        }
        Direction::Response => {
            LocalReply::new(500, Bytes::from_static(b"Internal Server Error"), details::RESPONSE_PAYLOAD_TOO_LARGE)
        }
    }
}
