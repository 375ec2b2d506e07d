//! The case file, as it is written. Unknown keys are errors, so that a typing mistake can't make a case compare less.

use std::collections::BTreeMap;

use nuncio_testkit::origin::Script;
use serde::Deserialize;
use serde_json::Value;

/// One document of a case file: a configuration, its origins, and the cases that run one after another on it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The configuration in the compact form of [`super::expand`].
    #[serde(default)]
    pub config: Value,
    /// The origins, with the script each plays unless a case says otherwise.
    #[serde(default)]
    pub origins: BTreeMap<String, OriginSpec>,
    /// Additional command line flags.
    #[serde(default)]
    pub flags: Vec<String>,
    /// In order.
    pub cases: Vec<Case>,
}

/// An origin of a group.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OriginSpec {
    /// Nobody listens.
    Refuse {
        /// Always true.
        #[serde(rename = "refuse")]
        _refuse: bool,
    },
    /// Someone plays this.
    Play(Script),
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique in its file.
    pub name: String,
    /// Scripts of origins for this case.
    #[serde(default)]
    pub script: BTreeMap<String, Script>,
    /// What the client does.
    #[serde(default)]
    pub steps: Vec<StepSpec>,
    /// What has to hold of both programs, so that the case can't degenerate.
    #[serde(default)]
    pub expect: CaseExpect,
    /// What is not compared.
    #[serde(default)]
    pub skip: Vec<Part>,
    /// Patterns whose matches are replaced in every recorded value.
    #[serde(default)]
    pub mask: Vec<String>,
    /// Patterns of counters that are not compared, in addition to the volatile ones.
    #[serde(default)]
    pub ignore_counters: Vec<String>,
    /// Access-log lines and upstream requests are compared as sets: their order depends on timing.
    #[serde(default)]
    pub unordered: bool,
    /// The number of access-log lines to wait for; by default one per response.
    pub log_lines: Option<usize>,
    /// Instead of steps: a configuration that is validated only.
    pub validate: Option<Validate>,
}

/// A configuration of which only the acceptance is compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validate {
    /// In the compact form.
    pub config: Option<Value>,
    /// Or the text of a file, used as it is.
    pub text: Option<String>,
    /// Whether Envoy accepts it.
    pub accepted: bool,
}

/// A part of what is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What the origins saw.
    Upstream,
    /// Access-log lines.
    Log,
    /// Counters that moved.
    Counters,
    /// Whether the connection was closed after a response.
    Closed,
    /// Which upstream connection a request came on.
    Reuse,
    /// Response bodies.
    Body,
}

/// What has to hold after the steps.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseExpect {
    /// Text contained in the access-log lines, line by line.
    pub log: Vec<String>,
    /// Text contained nowhere in the access log.
    pub log_lacks: Vec<String>,
    /// The number of requests by origin.
    pub upstream: BTreeMap<String, usize>,
    /// Text contained in what an origin saw: `name: value` lines of headers, or the body.
    pub saw: BTreeMap<String, Vec<String>>,
    /// Text not contained in what an origin saw.
    pub saw_not: BTreeMap<String, Vec<String>>,
    /// By how much counters moved.
    pub counters: BTreeMap<String, i128>,
}

impl CaseExpect {
    /// Whether nothing is asserted.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
            && self.log_lacks.is_empty()
            && self.upstream.is_empty()
            && self.saw.is_empty()
            && self.saw_not.is_empty()
            && self.counters.is_empty()
    }
}

/// A step: a request line such as `GET /path`, or all of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum StepSpec {
    /// A request on a connection of its own.
    Short(String),
    /// Everything spelled out.
    Full(Box<Step>),
}

impl StepSpec {
    /// The step in its full form.
    pub fn full(&self) -> Step {
        match self {
            Self::Short(request) => Step { req: Some(request.clone()), ..Step::default() },
            Self::Full(step) => (**step).clone(),
        }
    }
}

/// One step of the client. Exactly one of the acting fields is used: `req`, `raw`, `read` alone, `close`, `reset`, `release`,
/// `hold`, `await`, `stat`, `admin`, `drop_origin`,
/// `exit`, `curl`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// Sends a request: method and target.
    pub req: Option<String>,
    /// Sends these bytes.
    pub raw: Option<String>,
    /// The listener to connect to: `main` unless given.
    pub to: Option<String>,
    /// The name of the connection. Without one, the connection is new and ends with the step.
    pub conn: Option<String>,
    /// The local address to connect from.
    pub from: Option<String>,
    /// The Host header; `h.test` unless given; `""` for none.
    pub host: Option<String>,
    /// Header lines.
    pub headers: Vec<String>,
    /// The body, with `content-length`.
    pub body: Option<String>,
    /// A body of this many `x`.
    pub size: Option<usize>,
    /// A body in chunks.
    pub chunks: Option<Vec<String>>,
    /// Trailer lines after the chunks.
    pub trailers: Vec<String>,
    /// The HTTP version: `1.1` unless given; `2` speaks HTTP/2 from the first byte.
    pub version: Option<String>,
    /// What to read afterwards: one response unless given.
    pub read: Option<Read>,
    /// The responses answer HEAD requests: they have no body. Known by itself for `req`.
    pub to_head: bool,
    /// Says after sending that nothing more will come.
    pub shutdown: bool,
    /// Runs curl with these arguments against `https://server.test/`, which leads to the listener, with the authority of
    /// `{{tls}}`. Where the handshake fails, that it did is what is compared.
    pub curl: Option<Vec<String>>,
    /// Does the step this many times.
    pub repeat: Option<usize>,
    /// Closes this connection.
    pub close: Option<String>,
    /// Resets this connection.
    pub reset: Option<String>,
    /// Opens a gate that an origin waits for.
    pub release: Option<String>,
    /// Waits for a gate that an origin opens.
    pub hold: Option<String>,
    /// Waits until an origin saw a number of requests.
    pub r#await: Option<Await>,
    /// Waits until a counter or gauge has a value.
    pub stat: Option<Stat>,
    /// Sends a request to the admin endpoint.
    pub admin: Option<String>,
    /// Which part of the body of the admin endpoint is compared.
    pub view: View,
    /// Closes all connections of an origin from its side.
    pub drop_origin: Option<String>,
    /// Waits until the process ends, and expects this exit code.
    pub exit: Option<i32>,
    /// What has to hold of the response.
    pub expect: Option<Expect>,
}

/// What a step reads.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Read {
    /// This many responses.
    Responses(usize),
    /// `close`: everything until the peer closes. `nothing`: nothing.
    Named(ReadNamed),
    /// This many bytes.
    Bytes {
        /// The number of bytes.
        bytes: usize,
    },
}

/// See [`Read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadNamed {
    /// Everything until the peer closes.
    Close,
    /// Nothing.
    Nothing,
    /// The head of a response, and nothing of its body.
    Head,
}

/// Which part of a body is compared.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// All of it.
    #[default]
    All,
    /// Nothing.
    None,
    /// The paths of a JSON document, with the types that stand there.
    Keys,
    /// The JSON document, with the members of objects sorted.
    Json,
    /// Lines that match the pattern, sorted.
    Lines(String),
}

/// See [`Step::await`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Await {
    /// The origin.
    pub origin: String,
    /// At least this many requests.
    pub requests: usize,
}

/// See [`Step::stat`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stat {
    /// The name.
    pub name: String,
    /// The value it has to have.
    pub is: Option<u64>,
    /// The least value it has to have.
    pub at_least: Option<u64>,
}

/// What has to hold of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The status; 0 for no response.
    pub status: Option<u16>,
    /// Text contained in the body.
    pub body: Option<String>,
    /// Header lines, `name: value`, that are there.
    pub headers: Vec<String>,
    /// Names of headers that are not there.
    pub lacks: Vec<String>,
    /// Whether the connection was closed afterwards.
    pub closed: Option<bool>,
}

impl Expect {
    /// Whether nothing is asserted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
