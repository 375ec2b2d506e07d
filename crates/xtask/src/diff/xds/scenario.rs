//! The scenario file, as it is written. Unknown keys are errors.

use std::collections::BTreeMap;

use nuncio_testkit::origin::Script;
use serde::Deserialize;
use serde_json::Value;

/// How resources are subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One aggregated stream, state of the world.
    SotwAds,
    /// One aggregated stream, delta.
    DeltaAds,
    /// A stream per subscription, state of the world.
    Sotw,
    /// A stream per subscription, delta.
    Delta,
    /// Polling.
    Rest,
    /// Files, one per type: `{{tmp}}/cds.json`, ... `send` writes them.
    Files,
}

impl Mode {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::SotwAds => "sotw-ads",
            Self::DeltaAds => "delta-ads",
            Self::Sotw => "sotw",
            Self::Delta => "delta",
            Self::Rest => "rest",
            Self::Files => "files",
        }
    }
}

/// How the management server is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Cleartext TCP.
    #[default]
    Tcp,
    /// A unix socket.
    Unix,
    /// TCP with TLS.
    Tls,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// Anchors, to be used below.
    #[serde(default, rename = "shared")]
    _shared: Value,
    scenarios: Vec<Scenario>,
}

/// One exchange with a management server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Unique in its file.
    pub name: String,
    /// It is run in each of these.
    pub modes: Vec<Mode>,
    /// How the server is reached.
    #[serde(default)]
    pub transport: Transport,
    /// Merged into the bootstrap.
    #[serde(default)]
    pub config: Value,
    /// Command line flags.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Origins that endpoints may name. `a` and `b` are always there, and answer with their names.
    #[serde(default)]
    pub origins: BTreeMap<String, Script>,
    /// Files that are there before the start, by name below `{{tmp}}`: text, or a response (as `send` takes it).
    #[serde(default)]
    pub files: BTreeMap<String, Value>,
    /// In order.
    pub steps: Vec<Step>,
    /// Patterns of statistics that are not compared.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Patterns of further statistics that are compared.
    #[serde(default)]
    pub also: Vec<String>,
    /// Patterns whose matches are replaced in every recorded value.
    #[serde(default)]
    pub mask: Vec<String>,
    /// What Envoy does that its documentation does not say.
    #[serde(default, rename = "note")]
    pub _note: Option<String>,
}

/// One or several types.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Types {
    /// One.
    One(String),
    /// All of these, in any order; a type may stand several times.
    Unordered(Vec<String>),
}

impl Types {
    /// All of them.
    pub fn list(&self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::Unordered(list) => list.clone(),
        }
    }
}

/// One step. Exactly one of the acting fields is used: `expect`, `send`, `raw`, `close`, `reset`, `ended`, `go_away`, `cut`, `stop`,
/// `listen`, `http`, `finish`, `open`, `closed`, `stats`, `admin`, `ready`, `quiet`, `write`, `rename`, `link`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// Waits for requests of these types.
    pub expect: Option<Types>,
    /// Sends a response of this type (`cds`, ..., or a type URL).
    pub send: Option<String>,
    /// Its version.
    pub version: String,
    /// Its nonce; by default `<type>-<count>`.
    pub nonce: Option<String>,
    /// Its resources, in the forms of `resources.rs`.
    pub resources: Vec<Value>,
    /// Names that it says are gone.
    pub removed: Vec<String>,
    /// The identifier of the control plane.
    pub control_plane: Option<String>,
    /// The type that it claims, where that is another one.
    pub claims: Option<String>,
    /// Sends these bytes (hexadecimal) as a message on the stream of this type.
    pub raw: Option<String>,
    /// Where the other side is not the stream of the last request: the number of the stream.
    pub stream: Option<usize>,
    /// Closes the stream with this gRPC status; for REST, with this HTTP status.
    pub close: Option<u16>,
    /// The type whose last stream `close`, `reset` and `raw` mean; by default that of the last request.
    pub of: Option<String>,
    /// Resets the stream with this HTTP/2 error code.
    pub reset: Option<u32>,
    /// Waits until the client has ended the stream of this type.
    pub ended: Option<String>,
    /// Sends GOAWAY on every connection.
    pub go_away: bool,
    /// Closes every connection.
    pub cut: bool,
    /// Listens no more.
    pub stop: bool,
    /// Listens again.
    pub listen: bool,
    /// Sends `GET path` to this listener until the answer is as expected, and records it.
    pub http: Option<String>,
    /// The path; `/` by default.
    pub path: Option<String>,
    /// The Host header.
    pub host: Option<String>,
    /// Header lines.
    pub headers: Vec<String>,
    /// The status that is awaited; 0: no connection. Any by default.
    pub status: Option<u16>,
    /// Text that the body must contain.
    pub body: Option<String>,
    /// The connection to use, which `open` made.
    pub on: Option<String>,
    /// Speaks TLS and verifies that the certificate is for this name.
    pub tls: Option<String>,
    /// Sends the request of `http` on a new connection of this name, and waits for nothing.
    pub begin: Option<String>,
    /// Waits for the response on the connection of this name, and records it.
    pub finish: Option<String>,
    /// Opens a connection of this name to the listener `http`.
    pub open: Option<String>,
    /// Waits until the proxy closes the connection of this name.
    pub closed: Option<String>,
    /// Waits until these statistics have these values. One that is absent is 0.
    pub stats: BTreeMap<String, Value>,
    /// Asks the admin endpoint until the answer contains `body`, and records it.
    pub admin: Option<String>,
    /// The method of `admin`, GET by default.
    pub method: Option<String>,
    /// Of a JSON answer only what this pointer says.
    pub pointer: Option<String>,
    /// Does not record the answer.
    pub unrecorded: bool,
    /// Waits until `/ready` says so.
    pub ready: Option<bool>,
    /// Nothing must come for a while; what does is recorded.
    pub quiet: bool,
    /// Writes a file below `{{tmp}}`: `text`, or a response that the keys of `send` describe.
    pub write: Option<String>,
    /// The text.
    pub text: Option<String>,
    /// Renames a file below `{{tmp}}`: from, to.
    pub rename: Option<(String, String)>,
    /// Makes a symbolic link: the target, its name, which is replaced by a rename.
    pub link: Option<(String, String)>,
    /// The modes in which the step is done; by default all.
    #[serde(rename = "in")]
    pub modes: Vec<Mode>,
}

/// Reads the scenarios of a document.
pub fn parse(document: Value) -> Result<Vec<Scenario>, String> {
    let document: Document = serde_json::from_value(document).map_err(|error| error.to_string())?;
    for scenario in &document.scenarios {
        if scenario.modes.is_empty() || scenario.steps.is_empty() {
            return Err(format!("scenario '{}' does nothing", scenario.name));
        }
    }
    Ok(document.scenarios)
}
