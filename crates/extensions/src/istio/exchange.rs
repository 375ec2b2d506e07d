//! Metadata exchange on a TCP connection: each side first says what workload it stands before, then the bytes follow.
//!
//! On the wire: the number 0x3D230467 and a length, both big-endian u32, then a `google.protobuf.Any` of that length that holds
//! a `google.protobuf.Struct`. It is spoken where both sides agreed on the protocol in the TLS handshake. Ours goes out as soon
//! as the connection is used; nothing that the peer says behind its own is looked at.
//!
//! See envoyproxy/envoy, `contrib/istio/filters/network/metadata_exchange/source/metadata_exchange.cc`. Unlike there a length is
//! bounded, and a connection that announces more is closed.

use super::workload::{Labels, NO_PEER, Workload, wire};
use bytes::{Buf, Bytes, BytesMut};
use nuncio_api::wkt::Any;
use nuncio_io::transport::{SecureSocket, Transport};
use nuncio_stats::names::MetadataExchangeStats;
use nuncio_stream_info::{ConnectionState, PlainString, Struct, Value};
use prost::Message;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;

const MAGIC: u32 = 0x3D23_0467;
/// Number and length.
const HEADER: usize = 8;
/// Most bytes that a peer may say of itself.
const LONGEST: usize = 64 * 1024;
/// Bytes that are read at once.
const READ: usize = 4096;

const METADATA: &str = "x-envoy-peer-metadata";
const ID: &str = "x-envoy-peer-metadata-id";
const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";

/// What both sides of a filter have in common.
pub(crate) struct Exchange {
    /// The protocol (ALPN) in which it is done.
    pub protocol: Box<str>,
    /// `additional_labels`.
    pub labels: Labels,
    /// What is said, header included.
    pub own: Bytes,
    pub stats: MetadataExchangeStats,
    /// Where the filter state holds the peer.
    pub peer: &'static str,
}

impl Exchange {
    /// What this proxy says of its own workload.
    pub(crate) fn message(own: &Workload, node_id: &str) -> Bytes {
        let mut fields = Struct::new();
        fields.set(METADATA, Value::Struct(own.to_metadata()));
        if !node_id.is_empty() {
            fields.set(ID, node_id);
        }
        let any = Any { type_url: STRUCT.to_owned(), value: wire::encode(&fields) }.encode_to_vec();
        let mut message = Vec::with_capacity(HEADER + any.len());
        message.extend(MAGIC.to_be_bytes());
        message.extend((any.len() as u32).to_be_bytes());
        message.extend(any);
        message.into()
    }

    /// A connection on which metadata is exchanged, if both sides agreed to; else as it is.
    pub(crate) fn carry(
        self: &Arc<Self>,
        transport: Transport,
        protocol: Option<&str>,
        state: &ConnectionState,
    ) -> Transport {
        if protocol != Some(&*self.protocol) {
            self.stats.alpn_protocol_not_found().inc();
            nobody(state);
            return transport;
        }
        self.stats.alpn_protocol_found().inc();
        self.stats.metadata_added().inc();
        Transport::Tls(Box::new(Exchanged {
            carrier: transport,
            exchange: Arc::clone(self),
            state: state.clone(),
            out: self.own.clone(),
            flushed: false,
            stage: Stage::Number,
            read: BytesMut::new(),
            ended: false,
        }))
    }

    /// What a peer said. An error if it is no metadata.
    fn understand(&self, any: &[u8]) -> Result<Option<Workload>, ()> {
        let any = Any::decode(any).map_err(|_| ())?;
        if any.type_url.rsplit('/').next() != STRUCT.rsplit('/').next() {
            return Err(());
        }
        match wire::decode(&any.value).ok_or(())?.get(METADATA) {
            Some(Value::Struct(metadata)) => Ok(Some(Workload::from_metadata(metadata, &self.labels))),
            _ => Ok(None),
        }
    }
}

/// The peer tells nothing.
fn nobody(state: &ConnectionState) {
    // What is there already is as true as before.
    let _ = state.put(NO_PEER, Arc::new(PlainString("true".into())));
}

/// What is expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Number and length.
    Number,
    /// So many bytes of metadata.
    Metadata(usize),
    /// The connection's own bytes.
    Passing,
}

/// A connection on which metadata is exchanged.
struct Exchanged {
    carrier: Transport,
    exchange: Arc<Exchange>,
    state: ConnectionState,
    /// What is left to be said.
    out: Bytes,
    flushed: bool,
    stage: Stage,
    /// What was read and not yet handed on.
    read: BytesMut,
    /// The peer's stream ended while it was looked at.
    ended: bool,
}

impl Exchanged {
    /// Says what is left to be said.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            match ready!(self.carrier.poll_write(cx, &self.out))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.out.advance(count),
            }
        }
        if !self.flushed {
            ready!(self.carrier.poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads the peer's metadata off.
    fn poll_listen(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.stage != Stage::Passing {
            self.advance()?;
            if self.stage == Stage::Passing {
                break;
            }
            self.read.reserve(READ);
            if ready!(self.carrier.poll_read(cx, &mut self.read))? == 0 {
                // What came is all there is; the last filter sees it, and the end.
                self.ended = true;
                self.stage = Stage::Passing;
                nobody(&self.state);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Looks at what was read.
    fn advance(&mut self) -> io::Result<()> {
        if self.stage == Stage::Number {
            let Some(header) = self.read.first_chunk::<HEADER>() else { return Ok(()) };
            let [n0, n1, n2, n3, l0, l1, l2, l3] = *header;
            if u32::from_be_bytes([n0, n1, n2, n3]) != MAGIC {
                self.exchange.stats.initial_header_not_found().inc();
                self.stage = Stage::Passing;
                nobody(&self.state);
                return Ok(());
            }
            let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            if length > LONGEST {
                self.exchange.stats.header_not_found().inc();
                nobody(&self.state);
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer announces too much metadata"));
            }
            self.read.advance(HEADER);
            self.stage = Stage::Metadata(length);
        }
        if let Stage::Metadata(length) = self.stage
            && let Some(any) = self.read.get(..length)
        {
            self.stage = Stage::Passing;
            match self.exchange.understand(any) {
                Ok(peer) => {
                    match peer {
                        Some(peer) => {
                            // The only one who puts a peer there.
                            let _ = self.state.put(self.exchange.peer, Arc::new(peer));
                        }
                        None => nobody(&self.state),
                    }
                    self.read.advance(length);
                }
                Err(()) => {
                    self.exchange.stats.header_not_found().inc();
                    nobody(&self.state);
                }
            }
        }
        Ok(())
    }
}

impl SecureSocket for Exchanged {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_say(cx) {
            return Poll::Ready(Err(error));
        }
        ready!(self.poll_listen(cx))?;
        if !self.read.is_empty() {
            let count = self.read.len().min(into.remaining());
            into.put_slice(self.read.get(..count).unwrap_or_default());
            self.read.advance(count);
            if self.read.is_empty() {
                self.read = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        self.carrier.poll_read_buf(cx, into)
    }

    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_say(cx))?;
        self.carrier.poll_write_vectored(cx, from)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_say(cx))?;
        self.carrier.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_say(cx))?;
        self.carrier.poll_shutdown(cx)
    }

    fn is_quiet(&mut self) -> bool {
        self.read.is_empty() && !self.ended && self.carrier.is_quiet()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read.is_empty() && !self.ended { self.carrier.poll_readable(cx) } else { Poll::Ready(()) }
    }

    fn carrier(&self) -> &Transport {
        &self.carrier
    }
}

#[cfg(test)]
mod tests;
