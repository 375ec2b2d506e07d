//! What is known of one stream, and the language in which it is logged.
//!
//! Owns: the facts of a stream ([`StreamInfo`]) and of the connections and routes it uses, response flags and details,
//! dynamic metadata, filter state, the format compiler of access logs, header values and local reply bodies
//! ([`Format`]), and the access-log filters ([`LogFilter`]). Does not own: sinks, files, sockets, clocks or randomness;
//! points in time and random numbers are passed in.
//!
//! *Invariant*: a reset [`StreamInfo`] owns no memory beyond buffers kept for reuse, and writing a compiled format
//! allocates nothing unless the output buffer has to grow or a value has to be assembled (joined lists, typed values).

mod address;
mod connection;
mod context;
mod filter_state;
mod flags;
mod format;
mod log_filter;
mod metadata;
mod stream;
pub mod time;
mod timing;
mod upstream;
mod value;

pub mod details;
#[doc(hidden)]
pub mod fuzz;

pub use address::Address;
pub use connection::{CertificateNames, CloseType, ConnectionInfo, ProxiedAddresses, TlsInfo};
pub use context::{AccessLogType, LogContext};
pub use filter_state::{
    ApplicationProtocols, ConnectionState, FieldValue, FilterState, FilterStateError, FilterStateObject, LifeSpan,
    Mutability, PlainString, Sharing,
};
pub use flags::{ResponseFlags, UnknownFlag};
pub use format::{
    CompileExpression, DEFAULT_FORMAT, DEFAULT_TCP_FORMAT, Expression, Format, FormatError, FormatOptions, Operator,
    operators, uuid, wants_route_times,
};
pub use log_filter::{
    Comparison, ContextPredicate, HeaderPredicate, LogFilter, RuntimeLookup, RuntimeValue, ValuePredicate,
};
pub use metadata::Metadata;
pub use stream::{ByteCounts, Protocol, RouteInfo, StreamInfo, TraceInfo, VirtualHostInfo};
pub use timing::{TimePoint, Timing};
pub use upstream::{ClusterInfo, HostInfo, Locality, UpstreamInfo};
pub use value::{Struct, Value, write_json_string};
