//! What the gRPC filters share: what a gRPC message is, the method that a request calls, and where its calls are counted.

use hashbrown::HashMap;
use nuncio_cluster::{GrpcMethod, GrpcProtocol, GrpcStats, WorkerCluster, WorkerClusters};
use nuncio_filter::{RouteSlot, Stream, Worker};
use nuncio_headers::{HeaderMap, Known};
use nuncio_route::{PeerCertificate, RouteQuery};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

/// Length of what precedes every message: flags, and the length of the message (4 bytes).
pub(super) const FRAME_HEADER: usize = 5;

/// Whether a response is gRPC: trailers alone say so by their status, others by code and content type.
pub(super) fn is_grpc_response(headers: &HeaderMap, last: bool) -> bool {
    if last {
        return headers.has(Known::GRPC_STATUS);
    }
    headers.get(Known::STATUS) == Some(b"200") && nuncio_route::is_grpc(headers)
}

/// The path without its query.
pub(super) fn path(request: &HeaderMap) -> &[u8] {
    let path = request.get(Known::PATH).unwrap_or_default();
    path.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// Service and method of a path: it has exactly two parts.
pub(super) fn service_and_method(path: &[u8]) -> Option<(&str, &str)> {
    let path = std::str::from_utf8(path).ok()?;
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let names = (parts.next()?, parts.next()?);
    parts.next().is_none().then_some(names)
}

/// The cluster that the stream's route forwards to, if it does.
pub(super) fn cluster(stream: &mut Stream<'_>) -> Option<Rc<WorkerCluster>> {
    stream.resolve();
    let RouteSlot::Found(route) = &stream.state.route else { return None };
    let forward = route.forward()?;
    let random = stream.state.random;
    let choice = stream.worker.with_runtime(|runtime| {
        let query = RouteQuery {
            headers: stream.request,
            random,
            runtime,
            info: Some(stream.info),
            peer_certificate: PeerCertificate::default(),
        };
        forward.choose_cluster(&query, None)
    })?;
    stream.worker.services().get::<WorkerClusters>()?.get(&choice.name)
}

/// How the names of a method come into those of its stats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum MethodNames {
    /// As they are.
    Plain,
    /// With `_` for the dots of the service.
    WithoutDots,
}

/// The stats of the method that a path calls; none if it calls no method.
pub(super) fn method(
    worker: &Worker,
    cluster: &WorkerCluster,
    protocol: GrpcProtocol,
    names: MethodNames,
    path: &[u8],
) -> Option<Arc<GrpcMethod>> {
    let stats = cluster.info.stats.grpc(protocol);
    worker.services().get_or_insert_with(KnownMethods::default).find(stats, names, path)
}

/// Most methods that a worker remembers.
const MOST_KNOWN: usize = 4096;

/// The methods of a cluster, by path.
type ByPath = HashMap<Box<[u8]>, Weak<GrpcMethod>>;

/// The methods that were called lately on one worker, so that a call takes no lock. It keeps no stats of clusters alive
/// that are gone.
#[derive(Default)]
struct KnownMethods {
    by_path: RefCell<HashMap<(u64, MethodNames), ByPath>>,
}

impl KnownMethods {
    fn find(&self, stats: &GrpcStats, names: MethodNames, path: &[u8]) -> Option<Arc<GrpcMethod>> {
        let mut known = self.by_path.borrow_mut();
        let key = (stats.id(), names);
        if let Some(method) = known.get(&key).and_then(|methods| methods.get(path)).and_then(Weak::upgrade) {
            return Some(method);
        }
        let (service, method) = service_and_method(path)?;
        let method = match names {
            MethodNames::Plain => stats.method(service, method),
            MethodNames::WithoutDots => stats.method(&service.replace('.', "_"), method),
        };
        if known.values().map(HashMap::len).sum::<usize>() >= MOST_KNOWN {
            known.clear();
        }
        known.entry(key).or_default().insert(path.into(), Arc::downgrade(&method));
        Some(method)
    }
}

/// Follows the frames of a message stream without looking into them.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Frames {
    /// Bytes of the present frame's header that came.
    header: usize,
    length: u32,
    /// Bytes of the present frame's message that are to come.
    left: u32,
    /// Frames that began.
    pub(super) count: u64,
}

/// Where a frame's bytes end in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Advance {
    /// Bytes of the chunk that belong to the present frame.
    pub taken: usize,
    /// Whether the frame ends with them.
    pub complete: bool,
    /// The flags, if the frame began with them.
    pub began: Option<u8>,
}

impl Frames {
    /// Takes the bytes of one frame from the start of a chunk that is not empty.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Advance {
        let mut taken = 0;
        let mut began = None;
        while self.header < FRAME_HEADER {
            let Some(byte) = bytes.get(taken) else { return Advance { taken, complete: false, began } };
            match self.header {
                0 => {
                    began = Some(*byte);
                    self.count += 1;
                    self.length = 0;
                }
                _ => self.length = self.length << 8 | u32::from(*byte),
            }
            self.header += 1;
            self.left = self.length;
            taken += 1;
        }
        let message = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - taken);
        self.left -= u32::try_from(message).unwrap_or(self.left);
        let complete = self.left == 0;
        if complete {
            self.header = 0;
        }
        Advance { taken: taken + message, complete, began }
    }

    /// Counts the frames that begin in a chunk.
    pub(super) fn count(&mut self, mut bytes: &[u8]) -> u64 {
        let before = self.count;
        while !bytes.is_empty() {
            let advance = self.advance(bytes);
            bytes = bytes.get(advance.taken..).unwrap_or_default();
        }
        self.count - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_methods() {
        for (path, names) in [
            ("/a.B/C", Some(("a.B", "C"))),
            ("//a.B//C/", Some(("a.B", "C"))),
            ("/a.B", None),
            ("/a/b/c", None),
            ("", None),
        ] {
            assert_eq!(service_and_method(path.as_bytes()), names, "{path}");
        }
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let bytes = b"\0\0\0\0\x03abc\x01\0\0\0\0\0\0\0\0\x01x";
        for size in 1..=bytes.len() {
            let mut frames = Frames::default();
            let counted: u64 = bytes.chunks(size).map(|chunk| frames.count(chunk)).sum();
            assert_eq!(counted, 3, "in pieces of {size}");
        }
    }

    #[test]
    fn a_frame_as_long_as_can_be_overflows_nothing() {
        let mut frames = Frames::default();
        assert_eq!(frames.count(b"\0\xff\xff\xff\xff"), 1);
        assert_eq!(frames.count(&[0; 100]), 0);
    }
}
