//! The TLS handshake of an accepted connection.

use nuncio_config::snapshot::FilterChain;
use nuncio_config::tls::DownstreamTls;
use nuncio_filter::{Overload, ScaledTimer, Worker};
use nuncio_io::transport::Transport;
use nuncio_stream_info::ConnectionInfo;
use nuncio_tls::FailureKind;
use std::sync::Arc;
use std::time::Duration;

/// How long a handshake may take where `transport_socket_connect_timeout` says nothing: Envoy closes such connections when
/// they have been idle for so long.
const LONGEST: Duration = Duration::from_secs(3600);

/// A connection that is ready for its filters.
pub(super) struct Ready {
    pub transport: Transport,
    /// The protocol that was agreed on (ALPN).
    pub protocol: Option<Arc<str>>,
}

/// Why a connection ends before its filters see it.
#[derive(Debug)]
pub(super) struct Failed {
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`; may be empty.
    pub reason: Arc<str>,
    /// The time was over.
    pub timeout: bool,
}

/// Does what the chain's transport socket asks for, and notes what came of it.
pub(super) async fn establish(
    chain: &FilterChain,
    transport: Transport,
    info: &mut ConnectionInfo,
    (worker, overload): (&Worker, Option<&Overload>),
) -> Result<Ready, Failed> {
    let Some(tls) = &chain.tls else { return Ok(Ready { transport, protocol: None }) };
    let configured = chain.transport_connect_timeout;
    let limit = match overload {
        Some(overload) => overload.timeout(ScaledTimer::TransportSocketConnect, configured),
        None => configured,
    };
    let limit = limit.unwrap_or(LONGEST);
    match tokio::time::timeout(limit, handshake(tls, transport, info, worker)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failed { reason: Arc::from("connect timeout"), timeout: true }),
    }
}

async fn handshake(
    tls: &DownstreamTls,
    transport: Transport,
    info: &mut ConnectionInfo,
    worker: &Worker,
) -> Result<Ready, Failed> {
    let ip = |address: &nuncio_stream_info::Address| address.socket().map(|socket| socket.ip());
    info.handshake_begin = Some(worker.tick());
    match tls.context.accept(transport, ip(&info.local), ip(&info.remote)).await {
        Ok((transport, session)) => {
            tls.counters.established(&session);
            info.handshake_end = Some(worker.tick());
            info.tls = Some(session.info);
            Ok(Ready { transport, protocol: session.alpn })
        }
        Err(error) => {
            tls.counters.failed(&error);
            if error.kind == FailureKind::NotReady {
                tls.factory.downstream_context_secrets_not_ready().inc();
            }
            tracing::debug!(target: "connection", "TLS handshake of {}: {error}", info.remote);
            Err(Failed { reason: error.reason.into(), timeout: false })
        }
    }
}
