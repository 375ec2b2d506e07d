//! Counting a call where it ends and its messages where they begin.

use super::super::grpc::{self, Frames, MethodNames};
use super::state::MessageCounts;
use nuncio_cluster::{GrpcMethod, GrpcProtocol, WorkerCluster};
use nuncio_filter::{Chunk, DataStep, End, HttpFilter, HttpFilterFactory, Interest, Step, Stream, Worker};
use nuncio_headers::{HeaderMap, HeaderName, Known};
use nuncio_stream_info::{FilterStateObject, LifeSpan, Mutability, Sharing, TimePoint};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

/// What is counted, and where.
pub(super) struct Options {
    /// `emit_filter_state`.
    pub emit_filter_state: bool,
    /// `enable_upstream_stats`: how long the upstream took.
    pub upstream_time: bool,
    /// Whose calls are counted under the names of their methods.
    pub per_method: PerMethod,
}

/// Whose calls are counted under the names of their methods.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PerMethod {
    /// No one's.
    None,
    /// Everyone's.
    All,
    /// Everyone's; the dots of services become `_`.
    AllWithoutDots,
    /// Those of methods that are listed, as `<service>/<method>`.
    Listed(HashSet<Box<str>>),
}

impl Options {
    /// Where the calls of a path are counted; nowhere if it names no method.
    fn method(&self, worker: &Worker, cluster: &WorkerCluster, path: &[u8]) -> Option<Arc<GrpcMethod>> {
        let named = |names| grpc::method(worker, cluster, GrpcProtocol::Grpc, names, path);
        match &self.per_method {
            PerMethod::All => named(MethodNames::Plain),
            PerMethod::AllWithoutDots => named(MethodNames::WithoutDots),
            PerMethod::Listed(list) if is_listed(list, path) => named(MethodNames::Plain),
            PerMethod::Listed(_) | PerMethod::None => {
                grpc::service_and_method(path)?;
                Some(Arc::clone(cluster.info.stats.grpc(GrpcProtocol::Grpc).all()))
            }
        }
    }
}

fn is_listed(list: &HashSet<Box<str>>, path: &[u8]) -> bool {
    let plain = path.strip_prefix(b"/").and_then(|path| std::str::from_utf8(path).ok());
    if plain.is_some_and(|path| list.contains(path)) {
        return true;
    }
    // With more slashes than it needs.
    grpc::service_and_method(path).is_some_and(|(service, method)| list.contains(&*format!("{service}/{method}")))
}

pub(super) struct GrpcStatsFactory {
    pub options: Arc<Options>,
}

impl HttpFilterFactory for GrpcStatsFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(GrpcStatsFilter::new(Arc::clone(&self.options)))
    }

    fn interest(&self) -> Interest {
        Interest::ALL
    }
}

/// What kind of call a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Call {
    /// None that is counted.
    #[default]
    None,
    /// gRPC.
    Grpc,
    /// One message each way (the Connect protocol), without frames.
    ConnectUnary,
    /// Frames of the Connect protocol, the last of which holds the status.
    ConnectStreaming,
}

impl Call {
    fn of(request: &HeaderMap) -> Call {
        if nuncio_route::is_grpc(request) {
            return Call::Grpc;
        }
        let kind = request.get(Known::CONTENT_TYPE).unwrap_or_default();
        if kind.starts_with(b"application/connect+") {
            return Call::ConnectStreaming;
        }
        let version = HeaderName::new("connect-protocol-version").ok().and_then(|name| request.get_name(&name));
        if version.is_some_and(|version| !version.is_empty()) { Call::ConnectUnary } else { Call::None }
    }
}

pub(super) struct GrpcStatsFilter {
    options: Arc<Options>,
    call: Call,
    /// Where it is counted; nowhere if the route forwards to no cluster or the path names no method.
    method: Option<Arc<GrpcMethod>>,
    /// The response consists of frames.
    framed_response: bool,
    request: Frames,
    response: Frames,
    /// Messages so far.
    counts: [u64; 2],
    end: ConnectEnd,
    state: Option<Arc<MessageCounts>>,
    /// The response came to its end.
    complete: bool,
}

/// Which body.
#[derive(Debug, Clone, Copy)]
enum Side {
    Request,
    Response,
}

impl GrpcStatsFilter {
    pub(super) fn new(options: Arc<Options>) -> GrpcStatsFilter {
        GrpcStatsFilter {
            options,
            call: Call::None,
            method: None,
            framed_response: false,
            request: Frames::default(),
            response: Frames::default(),
            counts: [0; 2],
            end: ConnectEnd::default(),
            state: None,
            complete: false,
        }
    }

    fn count(&mut self, stream: &mut Stream<'_>, side: Side, messages: u64) {
        if messages == 0 {
            return;
        }
        self.counts[side as usize] += messages;
        if let Some(method) = &self.method {
            let counter = match side {
                Side::Request => method.stats.request_message_count(),
                Side::Response => method.stats.response_message_count(),
            };
            counter.add(messages);
        }
        if !self.options.emit_filter_state {
            return;
        }
        let state = match &self.state {
            Some(state) => state,
            None => {
                let state = Arc::new(MessageCounts::default());
                let object: Arc<dyn FilterStateObject> = Arc::clone(&state) as _;
                // A second filter of the kind counts the same; which of the two is seen does not matter.
                let name = "envoy.filters.http.grpc_stats";
                let _ = stream.info.filter_state.set(
                    name,
                    object,
                    Mutability::Mutable,
                    LifeSpan::FilterChain,
                    Sharing::None,
                );
                self.state.insert(state)
            }
        };
        state.set(self.counts[0], self.counts[1]);
    }

    fn charge_status(&self, headers: &HeaderMap) {
        if let (Some(method), Some(status)) = (&self.method, headers.get(Known::GRPC_STATUS)) {
            method.charge_status(status);
        }
    }

    /// Messages that begin in a piece of the response.
    fn response_messages(&mut self, bytes: &[u8]) -> u64 {
        if self.call != Call::ConnectStreaming {
            return self.response.count(bytes);
        }
        let mut rest = bytes;
        let mut messages = 0;
        while !rest.is_empty() && !self.end.is_complete {
            let advance = self.response.advance(rest);
            let (frame, behind) = rest.split_at(advance.taken.min(rest.len()));
            match advance.began {
                Some(flags) if flags & ConnectEnd::FLAG != 0 => self.end.started = true,
                Some(_) => messages += 1,
                None => {}
            }
            if self.end.started {
                self.end.take(frame, advance.complete);
            }
            rest = behind;
        }
        messages
    }
}

impl HttpFilter for GrpcStatsFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        self.call = Call::of(stream.request);
        if self.call != Call::None
            && let Some(cluster) = grpc::cluster(stream)
        {
            let path = grpc::path(stream.request);
            self.method = self.options.method(stream.worker, &cluster, path);
        }
        Step::Next
    }

    fn request_data(&mut self, stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        let messages = match self.call {
            Call::Grpc | Call::ConnectStreaming => self.request.count(data.bytes()),
            Call::ConnectUnary => u64::from(end.is_last()),
            Call::None => 0,
        };
        self.count(stream, Side::Request, messages);
        DataStep::Next
    }

    fn response_headers(&mut self, stream: &mut Stream<'_>, end: End) -> Step {
        let is_200 = stream.response.get(Known::STATUS) == Some(b"200");
        let kind = stream.response.get(Known::CONTENT_TYPE).unwrap_or_default();
        let streams = is_200 && kind.starts_with(b"application/connect+");
        self.framed_response = grpc::is_grpc_response(stream.response, end.is_last());
        self.complete = end.is_last();
        match self.call {
            Call::ConnectUnary => {
                if let Some(method) = &self.method {
                    method.charge(is_200);
                }
            }
            Call::Grpc | Call::ConnectStreaming if !streams => self.charge_status(stream.response),
            _ => {}
        }
        Step::Next
    }

    fn response_data(&mut self, stream: &mut Stream<'_>, data: &mut Chunk, end: End) -> DataStep {
        let last = end.is_last();
        let messages = match self.call {
            Call::ConnectUnary => u64::from(last),
            Call::Grpc | Call::None if !self.framed_response => 0,
            Call::Grpc | Call::None | Call::ConnectStreaming => self.response_messages(data.bytes()),
        };
        self.count(stream, Side::Response, messages);
        if last
            && self.call == Call::ConnectStreaming
            && let Some(method) = &self.method
        {
            method.charge(self.end.is_success);
        }
        self.complete |= last && self.call != Call::Grpc;
        DataStep::Next
    }

    fn response_trailers(&mut self, stream: &mut Stream<'_>) -> Step {
        if self.call == Call::Grpc {
            self.charge_status(stream.response_trailers);
            self.complete = true;
        }
        Step::Next
    }

    fn finish(&mut self, stream: &mut Stream<'_>) {
        let Some(method) = self.method.as_ref().filter(|_| self.options.upstream_time && self.complete) else { return };
        let timing = &stream.info.timing;
        if let (Some(sent), Some(received)) =
            (timing.get(TimePoint::UpstreamTxEnd), timing.get(TimePoint::UpstreamRxEnd))
        {
            let nanos = u64::try_from(received - sent).unwrap_or(0);
            method.stats.upstream_rq_time().record(nanos / 1_000_000);
        }
    }
}

/// The last frame of a Connect stream: JSON that may hold an error.
#[derive(Default)]
struct ConnectEnd {
    started: bool,
    is_complete: bool,
    is_success: bool,
    frame: Vec<u8>,
}

impl ConnectEnd {
    /// The flag of the frame that ends the stream.
    const FLAG: u8 = 2;
    /// Most bytes that are kept of it. A longer one is not understood, and counts as a failure.
    const LONGEST: usize = 16 * 1024;

    fn take(&mut self, bytes: &[u8], complete: bool) {
        let room = Self::LONGEST.saturating_sub(self.frame.len());
        self.frame.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if complete {
            self.is_complete = true;
            let json = self.frame.get(grpc::FRAME_HEADER..).unwrap_or_default();
            let status: Option<serde_json::Value> = serde_json::from_slice(json).ok();
            self.is_success =
                status.is_some_and(|status| status.get("error").and_then(|error| error.get("code")).is_none());
            self.frame = Vec::new();
        }
    }
}
