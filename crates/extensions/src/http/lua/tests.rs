//! Scripts run against a stream of a test; every hook is a function call.

mod api;
mod configuration;
mod flow;
mod limits;
mod patterns;

use super::budget::Clock;
use super::filter::{LuaConfig, LuaFactory, interest};
use super::run::{Outcome, Run};
use super::script::Script;
use super::vm::{self, Machines};
use crate::testing::TestStream;
use bytes::Bytes;
use nuncio_filter::{
    Chunk, ClientError, ClientRequest, ClientResponse, Completed, DataStep, End, HttpClient, HttpClientHandle,
    HttpFilter, HttpFilterFactory, Step, Work,
};
use nuncio_headers::{HeaderMap, HeaderName};
use nuncio_stats::Store;
use nuncio_stats::names::{LuaProcessStats, LuaStats};
use nuncio_stream_info::Struct;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A script, compiled.
fn script(text: &str) -> Arc<Script> {
    Script::new(text, "", vm::check(text, "").unwrap())
}

/// A configuration with a default script.
fn config(store: &Store, text: &str) -> LuaConfig {
    let scope = store.scope("http.p.lua", &[]);
    LuaConfig {
        id: 0,
        default: Some(script(text)),
        named: HashMap::new(),
        context: None,
        clear_route_cache: true,
        stats: LuaStats::register(&scope),
        process: LuaProcessStats::register(&store.scope("lua", &[])),
        scope,
        stat_names: Mutex::default(),
    }
}

/// A clock that stands still.
fn still() -> Clock {
    ticking(Rc::default())
}

/// A clock that advances by as much whenever it is looked at.
fn ticking(step: Rc<Cell<Duration>>) -> Clock {
    let now = Cell::new(Instant::now());
    Clock::new(move || {
        now.set(now.get() + step.get());
        now.get()
    })
}

/// A filter with its stream.
struct Proxy {
    test: TestStream,
    filter: Box<dyn HttpFilter>,
    factory: LuaFactory,
    store: Store,
}

impl Proxy {
    fn new(text: &str) -> Proxy {
        let store = Store::new(1);
        let config = config(&store, text);
        Proxy::with(config, store)
    }

    fn with(config: LuaConfig, store: Store) -> Proxy {
        let hooks = config.default.as_ref().unwrap().hooks;
        let factory = LuaFactory { config: Arc::new(config), interest: interest(hooks) };
        let mut test = TestStream::new();
        test.state.buffer_limit = 1 << 20;
        test.state.names = vec![Arc::from("lua")];
        for (name, value) in [(":method", "GET"), (":path", "/p"), (":authority", "host"), ("accept", "*/*")] {
            test.request.append(&HeaderName::new(name).unwrap(), value.as_bytes());
        }
        for (name, value) in [(":status", "200"), ("content-length", "3")] {
            test.response.append(&HeaderName::new(name).unwrap(), value.as_bytes());
        }
        test.worker.services().insert(Rc::new(Machines::with(still())));
        let filter = factory.create(&test.worker.clone());
        Proxy { test, filter, factory, store }
    }

    /// The next stream of the same worker.
    fn next(&mut self) {
        let fresh = Proxy::with(config(&self.store, ""), Store::new(1));
        let (state, request, response) = (fresh.test.state, fresh.test.request, fresh.test.response);
        (self.test.state, self.test.request, self.test.response) = (state, request, response);
        self.filter = self.factory.create(&self.test.worker.clone());
    }

    fn request(&mut self, end: End) -> Step {
        self.filter.request_headers(&mut self.test.stream(), end)
    }

    fn response(&mut self, end: End) -> Step {
        self.filter.response_headers(&mut self.test.stream(), end)
    }

    /// A piece of the request body: what the filter answers, and what is left of the piece.
    fn data(&mut self, bytes: &str, end: End) -> (DataStep, String) {
        let mut chunk = Chunk::from(Bytes::copy_from_slice(bytes.as_bytes()));
        let step = self.filter.request_data(&mut self.test.stream(), &mut chunk, end);
        if matches!(step, DataStep::Buffer | DataStep::Await(_)) {
            self.test.state.request_body.extend_from_slice(chunk.bytes());
        }
        (step, String::from_utf8(chunk.bytes().to_vec()).unwrap())
    }

    fn header(&self, name: &str) -> Option<String> {
        value(&self.test.request, name)
    }

    fn errors(&self) -> u64 {
        self.store.value("http.p.lua.errors").unwrap()
    }

    /// Answers calls of scripts with this.
    fn answer_calls(&mut self, result: Result<ClientResponse, ClientError>) -> Rc<RefCell<Vec<ClientRequest>>> {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let client: Rc<dyn HttpClient> = Rc::new(Client { seen: Rc::clone(&seen), result });
        self.test.worker.services().insert(Rc::new(HttpClientHandle(client)));
        seen
    }

    /// Hands the output of finished work to the filter.
    fn done(&mut self, mut work: Work) -> Step {
        let Poll::Ready(done) = work.poll(&mut Context::from_waker(Waker::noop())) else { panic!("it is not ready") };
        self.resume(done)
    }

    fn resume(&mut self, done: Completed) -> Step {
        self.filter.resume(&mut self.test.stream(), done)
    }
}

struct Client {
    seen: Rc<RefCell<Vec<ClientRequest>>>,
    result: Result<ClientResponse, ClientError>,
}

impl HttpClient for Client {
    fn send(&self, request: ClientRequest) -> Pin<Box<dyn Future<Output = Result<ClientResponse, ClientError>>>> {
        self.seen.borrow_mut().push(request);
        let result = self.result.clone();
        Box::pin(async move { result })
    }

    fn has_cluster(&self, name: &str) -> bool {
        name == "known"
    }
}

fn value(headers: &HeaderMap, name: &str) -> Option<String> {
    let name = HeaderName::new(name).unwrap();
    let value = headers.joined(&name)?;
    Some(String::from_utf8(value.into_owned()).unwrap())
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(&HeaderName::new(name).unwrap(), value.as_bytes());
    }
    map
}

/// What statements in `envoy_on_request` give to `out()`; `attempt()` gives it the result or error of a function.
fn says(statements: &str) -> String {
    says_with(statements, |_| ())
}

fn says_with(statements: &str, prepare: impl FnOnce(&mut Proxy)) -> String {
    let text = format!(
        "local said = {{}}
        function out(...) for i = 1, select('#', ...) do said[#said + 1] = tostring((select(i, ...))) end end
        function attempt(f) local ok, result = pcall(f) out(ok and 'ok' or 'failed', result) end
        function envoy_on_request(h)
          said = {{}}
{statements}
          h:headers():replace('out', table.concat(said, ' '))
        end"
    );
    let mut proxy = Proxy::new(&text);
    prepare(&mut proxy);
    let step = proxy.request(End::Last);
    assert!(matches!(step, Step::Next), "{step:?}");
    proxy.header("out").unwrap_or_else(|| panic!("the script failed: {}", failure(&text)))
}

/// The message with which a script fails.
fn failure(text: &str) -> String {
    failure_by(text, Duration::ZERO)
}

/// The same where time advances by `step` whenever the clock is looked at after the script was loaded.
fn failure_by(text: &str, step: Duration) -> String {
    let mut test = TestStream::new();
    test.request = map(&[(":path", "/p")]);
    let running = Rc::<Cell<Duration>>::default();
    let vm = vm::Vm::new(test.worker.now(), ticking(Rc::clone(&running)), None).unwrap();
    let function = match vm.load(text, "") {
        Ok(functions) => functions.request.unwrap(),
        Err(message) => return message,
    };
    running.set(step);
    let side = super::exchange::Side { headers_open: true, ended: true, ..Default::default() };
    match Run::new(Rc::new(vm), side).start(&function, &mut test.stream()) {
        Outcome::Failed(message) => message,
        Outcome::Over => "no failure".to_owned(),
        _ => "it waits".to_owned(),
    }
}
