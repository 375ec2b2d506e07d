//! What connections and requests cost in memory, asserted so that growth is noticed.
//!
//! An idle downstream connection holds the listener's task with its future (about 250 bytes; `server::listener::dispatch`
//! asserts the future), an [`HttpConnection`], its [`ConnectionInfo`], and its socket's registration with the reactor (about
//! 300 bytes): some 1.5 KB in all; the budget is 4 KB of resident memory. Its buffers and the [`ActiveStream`] went back to the worker when the last
//! response was sent. A request takes an [`ActiveStream`] from the worker's pool, with its header arenas, and an [`Active`]
//! with a [`PooledConnection`] for its upstream side.
//!
//! A limit that is met may be raised, in the commit that needs it, with a word on what the bytes are for.

use crate::chain::Side;
use crate::connection::HttpConnection;
use crate::router::{Active, Router};
use crate::stream::ActiveStream;
use nuncio_filter::StreamState;
use nuncio_stream_info::ConnectionInfo;

fn at_most<T>(limit: usize) {
    let size = size_of::<T>();
    assert!(size <= limit, "{} takes {size} bytes, {limit} were allowed", std::any::type_name::<T>());
}

#[test]
fn an_idle_connection_is_small() {
    // 8 of them lead to what the listener's access logs say of the connection, if it has any.
    // 8 more lead to how overloaded the process is.
    at_most::<HttpConnection>(496);
    at_most::<ConnectionInfo>(328);
}

#[test]
fn a_stream_is_small() {
    at_most::<ActiveStream>(2_632);
    // 24 of them are the weighted cluster, where it had to be chosen before the filters ran.
    // 8 lead to the scopes, where the route table is chosen by headers.
    at_most::<StreamState>(288);
    at_most::<Router>(496);
    at_most::<Active>(112);
    at_most::<Side>(144);
}
