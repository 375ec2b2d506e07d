//! The runtime contract: what a filter is, what it sees, and what it may answer.
//!
//! Owns: the traits of HTTP, network and listener filters, of access logs, and their factories; the outcome types
//! ([`Step`], [`DataStep`], [`LocalReply`]); the view of a stream that hooks are given ([`Stream`]); and the facts of a
//! worker that they may ask for ([`Worker`]). Does not own: the loop that calls the hooks (`hcm`), nor any filter.
//!
//! *Invariant*: no type here names a protobuf message. A filter gets compiled configuration.
//! *Invariant*: a stream never leaves its worker, so filters need not be `Send`; factories must be, as every worker
//! creates filters from the same one.
//!
//! The phases of a request, and the hooks in the order in which they run:
//!
//! ```text
//!  downstream ──▶ filter 0 ──▶ filter 1 ──▶ … ──▶ router ──▶ upstream
//!                 request_headers, request_data*, request_trailers
//!  downstream ◀── filter 0 ◀── filter 1 ◀── … ◀── router ◀── upstream
//!                 response_headers, response_data*, response_trailers
//!  finish: once for every filter that was created, after the access log facts are complete
//! ```

mod access_log;
mod client;
mod connection_log;
mod drain;
pub mod grpc;
mod http;
mod listener;
mod live;
mod network;
mod overload;
mod reply;
mod runtime;
mod stream;
mod work;
mod worker;

pub use access_log::{AccessLog, AccessLogs};
pub use client::{ClientError, ClientRequest, ClientResponse, HttpClient, HttpClientHandle};
pub use connection_log::ConnectionLog;
pub use drain::{ConnectionRegistry, Drain, Registration};
pub use http::{Chunk, DataStep, End, FilterSlot, HttpFilter, HttpFilterFactory, Interest, Step};
pub use listener::{ListenerFilter, ListenerFilterFactory, PeekStep, Peeked};
pub use live::{Live, LiveHttpFilter, LiveListenerFilter, LiveNetworkFilter, LiveTerminalFilter};
pub use network::{
    Connection, ConnectionObserver, NetworkFilter, NetworkFilterFactory, NetworkStep, Observers, OpenStep, StatsStore,
    TerminalFilterFactory,
};
pub use overload::{
    Admitted, LoadShedPoint, Overload, OverloadAction, OverloadSettings, SATURATED, ScaledTimer, TimerMinimum,
};
pub use reply::{Details, LocalReply, ReplyEdit};
pub use runtime::Runtime;
pub use stream::{Background, Body, RouteSlot, SentPart, Stream, StreamState};
pub use work::{Completed, Work};
pub use worker::{LocalAddress, Services, Worker};
