//! Operators by name: what parameters each takes, and what it compiles to.

mod table;

use super::FormatOptions;
use super::coalesce::Coalesce;
use super::data::{FilterStateValue, MetadataOf, MetadataValue, Serialisation};
use super::error::Refusal;
use super::hint;
use super::messages::{GrpcStatusFormat, HeaderValue, Headers, PathValue, QueryParameter, ServerName, XfccKey};
use super::op::{Interval, Moment, Number, Op, Point};
use super::parse::Command;
use super::texts::{AddressOf, Part, Text};
use super::tls::{Field, Side};
use crate::time::TimeFormat;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether any format of the process has `ROUTE_RESOLUTION_TIME_US`: the clock is read for it only then. It stays so.
static ROUTE_TIMES: AtomicBool = AtomicBool::new(false);

/// Whether the time that resolving a route takes has to be measured.
#[inline]
pub fn wants_route_times() -> bool {
    ROUTE_TIMES.load(Relaxed)
}

type Builder = fn(&Command<'_>, &Scope<'_>) -> Result<Op, Refusal>;

/// How an operator is made from its command.
#[derive(Clone, Copy)]
enum Make {
    Number(Number),
    Text(Text),
    Address(AddressOf, Part),
    Tls(Side, Field),
    GrpcStatusNumber,
    /// Neither parameters nor length.
    Plain(Builder),
    /// Parameters may be given; no length.
    Optional(Builder),
    /// Parameters must be given; no length.
    Required(Builder),
    /// Parameters may be given, and a length.
    OptionalCut(Builder),
    /// Parameters must be given; a length may be.
    RequiredCut(Builder),
}

struct Scope<'a> {
    options: &'a FormatOptions<'a>,
    /// How many `COALESCE` stand around.
    depth: u8,
}

/// Compiles a command.
pub(super) fn build(command: &Command<'_>, options: &FormatOptions<'_>) -> Result<Op, Refusal> {
    build_nested(command, options, 0)
}

/// Compiles a command inside of `depth` others.
pub(super) fn build_nested(command: &Command<'_>, options: &FormatOptions<'_>, depth: u8) -> Result<Op, Refusal> {
    let name = command.name;
    if name == "REQ_WITHOUT_QUERY" && options.req_without_query {
        let mut value = HeaderValue::new(command.parameters, command.max_length)?;
        value.without_query = true;
        return Ok(Op::Header(Headers::Request, value));
    }
    let Some((_, make)) = table::OPERATORS.iter().find(|(known, _)| *known == name) else {
        return Err(Refusal::hinted(format!("there is no operator {name}"), hint::unknown(name)));
    };
    check_syntax(*make, command)?;
    let scope = Scope { options, depth };
    match *make {
        Make::Number(number) => {
            if number == Number::RouteResolutionTime {
                ROUTE_TIMES.store(true, Relaxed);
            }
            Ok(Op::Number(number))
        }
        Make::Text(text) => Ok(Op::Text(text)),
        Make::Address(of, part) => Ok(Op::Address(of, part)),
        Make::Tls(side, field) => Ok(Op::Tls(side, field)),
        Make::GrpcStatusNumber => Ok(Op::GrpcStatus(GrpcStatusFormat::Number)),
        Make::Plain(make)
        | Make::Optional(make)
        | Make::Required(make)
        | Make::OptionalCut(make)
        | Make::RequiredCut(make) => make(command, &scope),
    }
}

impl Make {
    /// Whether parameters may be given, whether they must be, and whether a length may be.
    fn syntax(self) -> (bool, bool, bool) {
        match self {
            Make::Optional(_) => (true, false, false),
            Make::Required(_) => (true, true, false),
            Make::OptionalCut(_) => (true, false, true),
            Make::RequiredCut(_) => (true, true, true),
            _ => (false, false, false),
        }
    }
}

fn check_syntax(make: Make, command: &Command<'_>) -> Result<(), Refusal> {
    let (takes, requires, cuts) = make.syntax();
    let name = command.name;
    let is_bare = command.parameters.is_empty() && command.max_length.is_none();
    if !takes && !is_bare {
        return Err(Refusal::hinted(format!("{name} takes no parameters and no length"), format!("write %{name}%")));
    }
    if requires && command.parameters.is_empty() {
        return Err(Refusal::hinted(format!("{name} requires parameters"), format!("write %{name}(…)%")));
    }
    if !cuts && command.max_length.is_some() {
        return Err(Refusal::new(format!("{name} does not take a length")));
    }
    Ok(())
}

/// Whether an operator of this name exists.
pub(super) fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

/// An operator, as documentation describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator {
    /// Its name.
    pub name: &'static str,
    /// `(…)` may follow the name.
    pub takes_parameters: bool,
    /// `(…)` must follow the name.
    pub requires_parameters: bool,
    /// `:n` may follow, which cuts the value.
    pub takes_length: bool,
}

/// All operators but `REQ_WITHOUT_QUERY`, which only `formatters` bring.
pub fn operators() -> impl Iterator<Item = Operator> {
    table::OPERATORS.iter().map(|&(name, make)| {
        let (takes_parameters, requires_parameters, takes_length) = make.syntax();
        Operator { name, takes_parameters, requires_parameters, takes_length }
    })
}

/// The names of all operators.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    table::OPERATORS.iter().map(|(name, _)| *name)
}

fn header(headers: Headers, command: &Command<'_>) -> Result<Op, Refusal> {
    Ok(Op::Header(headers, HeaderValue::new(command.parameters, command.max_length)?))
}

fn request_header(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    header(Headers::Request, command)
}

fn response_header(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    header(Headers::Response, command)
}

fn response_trailer(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    header(Headers::Trailers, command)
}

fn time(moment: Moment, command: &Command<'_>) -> Result<Op, Refusal> {
    let format = TimeFormat::new(command.parameters).map_err(|error| Refusal::new(error.to_string()))?;
    Ok(Op::Time(moment, Box::new(format)))
}

fn local_time(moment: Moment, command: &Command<'_>, scope: &Scope<'_>) -> Result<Op, Refusal> {
    let format = TimeFormat::local(command.parameters, Arc::clone(&scope.options.time_zone))
        .map_err(|error| Refusal::new(error.to_string()))?;
    Ok(Op::Time(moment, Box::new(format)))
}

fn common_duration(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    let words: Vec<&str> = command.parameters.split(':').collect();
    let (from, to, unit) = match words.as_slice() {
        [from, to] => (from, to, "ms"),
        [from, to, unit] => (from, to, *unit),
        _ => return Err(Refusal::hinted("two points in time are needed", "for example DS_RX_BEG:DS_TX_END:us")),
    };
    let nanos_per_unit = match unit {
        "ms" => 1_000_000,
        "us" => 1_000,
        "ns" => 1,
        other => return Err(Refusal::new(format!("{other:?} is none of ms, us and ns"))),
    };
    let interval = Interval { from: Point::named(from), to: Point::named(to), nanos_per_unit };
    Ok(Op::Interval(Box::new(interval)))
}

fn metadata(of: MetadataOf, command: &Command<'_>, scope: &Scope<'_>) -> Result<Op, Refusal> {
    let parameters = command.parameters;
    if scope.options.header_value && parameters.starts_with('[') {
        return Err(Refusal::hinted(
            format!("the JSON form of {}'s parameters is obsolete", command.name),
            "separate the namespace and the keys with colons: NAMESPACE:KEY",
        ));
    }
    Ok(metadata_value(of, parameters, command.max_length))
}

fn metadata_value(of: MetadataOf, parameters: &str, max_length: Option<usize>) -> Op {
    let mut words = parameters.split(':');
    let namespace = words.next().unwrap_or("").into();
    let path = words.map(Box::from).collect();
    Op::Metadata(Box::new(MetadataValue { of, namespace, path, max_length }))
}

fn any_metadata(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    let (kind, rest) = command.parameters.split_once(':').unwrap_or((command.parameters, ""));
    let of = match kind {
        "DYNAMIC" => MetadataOf::Dynamic,
        "CLUSTER" => MetadataOf::Cluster,
        "UPSTREAM_HOST" => MetadataOf::UpstreamHost,
        "ROUTE" => MetadataOf::Route,
        "VIRTUAL_HOST" => MetadataOf::VirtualHost,
        "LISTENER" => MetadataOf::Listener,
        "LISTENER_FILTER_CHAIN" => MetadataOf::FilterChain,
        other => {
            return Err(Refusal::hinted(
                format!("{other:?} is no kind of metadata"),
                "use DYNAMIC, CLUSTER, UPSTREAM_HOST, ROUTE, VIRTUAL_HOST, LISTENER or LISTENER_FILTER_CHAIN",
            ));
        }
    };
    Ok(metadata_value(of, rest, command.max_length))
}

fn filter_state(upstream: bool, command: &Command<'_>) -> Result<Op, Refusal> {
    let mut words = command.parameters.split(':');
    let key = words.next().unwrap_or("");
    let form = words.next().unwrap_or("");
    let field = words.next().unwrap_or("");
    if key.is_empty() {
        return Err(Refusal::hinted("the key of the filter state is empty", "write KEY:PLAIN"));
    }
    let serialisation = match (form, field) {
        ("FIELD", "") => return Err(Refusal::hinted("FIELD lacks the name of the field", "write KEY:FIELD:NAME")),
        ("FIELD", name) => Serialisation::Field(name.into()),
        ("PLAIN", "") => Serialisation::Plain,
        ("TYPED" | "", "") => Serialisation::Typed,
        ("PLAIN" | "TYPED" | "", _) => return Err(Refusal::new("only FIELD takes the name of a field")),
        (other, _) => return Err(Refusal::new(format!("{other:?} is none of PLAIN, TYPED and FIELD"))),
    };
    let value = FilterStateValue { upstream, key: key.into(), serialisation, max_length: command.max_length };
    Ok(Op::FilterState(Box::new(value)))
}

fn query_parameters(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    let decoded = match command.parameters {
        "" | "ORIG" => false,
        "DECODED" => true,
        other => return Err(Refusal::new(format!("{other:?} is none of ORIG and DECODED"))),
    };
    Ok(Op::QueryParameters { decoded, max_length: command.max_length })
}

/// An unset variable prints `-`, even where other unset values are left out.
fn environment(command: &Command<'_>, scope: &Scope<'_>) -> Result<Op, Refusal> {
    let mut value = (scope.options.environment)(command.parameters).unwrap_or_else(|| "-".to_owned());
    while command.max_length.is_some_and(|max| value.len() > max) {
        value.pop();
    }
    Ok(Op::Constant(Some(value.into())))
}

fn cel(command: &Command<'_>, scope: &Scope<'_>) -> Result<Op, Refusal> {
    let name = command.name;
    if command.parameters.is_empty() {
        return Err(Refusal::hinted(format!("{name} requires parameters"), format!("write %{name}(…)%")));
    }
    let expression = (scope.options.expression)(command.parameters).map_err(Refusal::new)?;
    Ok(Op::Expression { expression, typed: name == "TYPED_CEL", max_length: command.max_length })
}

fn path(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    Ok(Op::Path(PathValue::new(command.parameters, command.max_length)?))
}

fn query_parameter(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    let parameter = QueryParameter { name: command.parameters.into(), max_length: command.max_length };
    Ok(Op::QueryParameter(Box::new(parameter)))
}

/// A length is accepted and does nothing, as in Envoy.
fn xfcc_value(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    Ok(Op::Xfcc(XfccKey::new(command.parameters)?))
}

fn server_name(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    Ok(Op::ServerName(ServerName::new(command.parameters)?))
}

fn grpc_status(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    Ok(Op::GrpcStatus(GrpcStatusFormat::new(command.parameters)?))
}

/// Other parameters than `ALLOW_WHITESPACES` are accepted and do nothing, as in Envoy.
fn response_code_details(command: &Command<'_>, _: &Scope<'_>) -> Result<Op, Refusal> {
    let allow_whitespace = command.parameters == "ALLOW_WHITESPACES";
    Ok(Op::Text(Text::ResponseCodeDetails { allow_whitespace }))
}

fn coalesce(command: &Command<'_>, scope: &Scope<'_>) -> Result<Op, Refusal> {
    Ok(Op::Coalesce(Box::new(Coalesce::new(command, scope.options, scope.depth)?)))
}

fn hostname(_: &Command<'_>, scope: &Scope<'_>) -> Result<Op, Refusal> {
    Ok(Op::Constant(scope.options.hostname.as_deref().map(Box::from)))
}

fn without_port(of: AddressOf, command: &Command<'_>) -> Op {
    Op::Address(of, Part::without_port(command.parameters))
}
