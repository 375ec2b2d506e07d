//! One stream's worth of subscriptions: of one kind, or of all (ADS).

use crate::delta::Delta;
use crate::pb;
use crate::sotw::Sotw;
use crate::time_to_live::TimesToLive;
use crate::{Names, RateLimit, Resource, ResourceType, WatchId};
use nuncio_api::pb::envoy::config::core::v3::Node;
use nuncio_api::pb::google::rpc::Status;
use std::rc::Rc;
use std::time::Instant;

/// The variant of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// State of the world (`GRPC`).
    Sotw,
    /// Incremental (`DELTA_GRPC`).
    Delta,
}

/// What a mux starts from.
#[derive(Debug, Clone)]
pub struct MuxOptions {
    /// The variant of the protocol.
    pub dialect: Dialect,
    /// Who this is.
    pub node: Node,
    /// Whether the node is in the first request of a stream only (`set_node_on_first_message_only`).
    pub node_on_first_only: bool,
    /// `rate_limit_settings`. Default none.
    pub rate_limit: Option<RateLimit>,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Of a state-of-the-world stream.
    Sotw(pb::DiscoveryResponse),
    /// Of an incremental stream.
    Delta(pb::DeltaDiscoveryResponse),
}

/// What is to be sent to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// On a state-of-the-world stream.
    Sotw(pb::DiscoveryRequest),
    /// On an incremental stream.
    Delta(pb::DeltaDiscoveryRequest),
}

/// What a response comes to for one watch.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The watch.
    pub watch: WatchId,
    /// Resources that are new or changed, or sent again.
    pub resources: Vec<Rc<Resource>>,
    /// Names of resources that the server says don't exist.
    pub removed: Vec<String>,
}

/// A response, to be handed to watches. [`Mux::done`] must be told what came of it.
#[derive(Debug)]
#[must_use]
pub struct Delivery {
    /// The kind.
    pub kind: ResourceType,
    /// The version of the response; empty for an expired time to live.
    pub version: String,
    /// Whether what is not in it is gone (state of the world, LDS and CDS).
    pub is_complete: bool,
    /// The watches concerned.
    pub shares: Vec<Share>,
    pub(crate) receipt: Receipt,
}

/// What a delivery becomes when it was taken up.
#[derive(Debug)]
pub(crate) enum Receipt {
    /// Nothing is sent.
    None,
    Sotw {
        version: String,
    },
    Delta {
        nonce: String,
        versions: Vec<(String, String)>,
        removed: Vec<String>,
    },
}

/// What watches made of a delivery.
pub type Outcome = Result<(), String>;

/// What a message was.
#[derive(Debug)]
#[must_use]
pub enum Received {
    /// Resources for watches.
    Deliver(Delivery),
    /// Not acceptable as a whole. [`Mux::done`] must be told so.
    Rejected {
        /// The kind.
        kind: ResourceType,
        /// What is wrong.
        reason: String,
        /// Watches of the kind.
        watches: Vec<WatchId>,
        /// To be given to [`Mux::done`].
        delivery: Delivery,
    },
    /// Of no concern, and why.
    Ignored(String),
}

/// gRPC's status of a NACK: INTERNAL, as Envoy has it.
const REJECTED: i32 = 13;
/// Most bytes of the text of a NACK.
const MOST_TEXT: usize = 4096;

/// The status that a NACK carries.
pub(crate) fn status(text: &str) -> Status {
    let mut end = text.len().min(MOST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Status { code: REJECTED, message: text.get(..end).unwrap_or_default().to_owned(), details: Vec::new() }
}

#[derive(Debug)]
enum Engine {
    Sotw(Sotw),
    Delta(Delta),
}

/// The subscriptions of a stream.
#[derive(Debug)]
pub struct Mux {
    engine: Engine,
    next_watch: u64,
    times_to_live: TimesToLive,
    rate_limit: Option<RateLimit>,
    is_limited: bool,
}

impl Mux {
    /// Without watches, and without a stream.
    pub fn new(options: MuxOptions) -> Mux {
        let MuxOptions { dialect, node, node_on_first_only, rate_limit } = options;
        let engine = match dialect {
            Dialect::Sotw => Engine::Sotw(Sotw::new(node, node_on_first_only)),
            Dialect::Delta => Engine::Delta(Delta::new(node, node_on_first_only)),
        };
        Mux { engine, next_watch: 1, times_to_live: TimesToLive::default(), rate_limit, is_limited: false }
    }

    /// The variant of the protocol.
    pub fn dialect(&self) -> Dialect {
        match self.engine {
            Engine::Sotw(_) => Dialect::Sotw,
            Engine::Delta(_) => Dialect::Delta,
        }
    }

    /// Begins to want resources.
    pub fn watch(&mut self, kind: ResourceType, names: Names) -> WatchId {
        let id = WatchId(self.next_watch);
        self.next_watch += 1;
        match &mut self.engine {
            Engine::Sotw(sotw) => sotw.watch(kind, id, names),
            Engine::Delta(delta) => delta.watch(kind, id, names),
        }
        id
    }

    /// Does not want them any more.
    pub fn unwatch(&mut self, kind: ResourceType, id: WatchId) {
        match &mut self.engine {
            Engine::Sotw(sotw) => sotw.unwatch(kind, id),
            Engine::Delta(delta) => delta.unwatch(kind, id),
        }
    }

    /// A watch of names wants another one: the server is asked for it even if it was asked before.
    pub fn extend(&mut self, kind: ResourceType, id: WatchId, name: &str) {
        match &mut self.engine {
            Engine::Sotw(sotw) => sotw.extend(kind, id, name),
            Engine::Delta(delta) => delta.extend(kind, id, name),
        }
    }

    /// The server said that there is nothing of a name of a watch: it is not asked for again, unless [`Mux::extend`] does.
    pub fn forget(&mut self, kind: ResourceType, id: WatchId, name: &str) {
        match &mut self.engine {
            Engine::Sotw(sotw) => sotw.forget(kind, id, name),
            Engine::Delta(delta) => delta.forget(kind, id, name),
        }
    }

    /// Requests of the kind wait from here on, as often as this is called, for [`Mux::resume`].
    pub fn pause(&mut self, kind: ResourceType) {
        match &mut self.engine {
            Engine::Sotw(sotw) => sotw.pause(kind),
            Engine::Delta(delta) => delta.pause(kind),
        }
    }

    /// Takes one [`Mux::pause`] back.
    pub fn resume(&mut self, kind: ResourceType) {
        match &mut self.engine {
            Engine::Sotw(sotw) => sotw.resume(kind),
            Engine::Delta(delta) => delta.resume(kind),
        }
    }

    /// There is a new stream.
    pub fn opened(&mut self) {
        match &mut self.engine {
            Engine::Sotw(sotw) => sotw.opened(),
            Engine::Delta(delta) => delta.opened(),
        }
    }

    /// The stream is over.
    pub fn closed(&mut self) {
        match &mut self.engine {
            Engine::Sotw(sotw) => sotw.closed(),
            Engine::Delta(delta) => delta.closed(),
        }
    }

    /// Takes a message of the server.
    pub fn receive(&mut self, message: Message, now: Instant) -> Received {
        let ttl = &mut self.times_to_live;
        match (&mut self.engine, message) {
            (Engine::Sotw(sotw), Message::Sotw(response)) => sotw.receive(response, ttl, now),
            (Engine::Delta(delta), Message::Delta(response)) => delta.receive(response, ttl, now),
            _ => Received::Ignored("a message of the other variant of the protocol".to_owned()),
        }
    }

    /// What came of a delivery: an ACK, or a NACK with a text.
    pub fn done(&mut self, delivery: Delivery, outcome: &Outcome) {
        let Delivery { kind, receipt, .. } = delivery;
        match (&mut self.engine, receipt) {
            (Engine::Sotw(sotw), Receipt::Sotw { version }) => sotw.done(kind, version, outcome),
            (Engine::Delta(delta), Receipt::Delta { nonce, versions, removed }) => {
                delta.done(kind, nonce, outcome, (versions, removed));
            }
            _ => {}
        }
    }

    /// The next request that may be sent.
    pub fn next_request(&mut self, now: Instant) -> Option<Request> {
        let has_request = match &mut self.engine {
            Engine::Sotw(sotw) => sotw.has_request(),
            Engine::Delta(delta) => delta.has_request(),
        };
        if !has_request {
            self.is_limited = false;
            return None;
        }
        self.is_limited = self.rate_limit.as_mut().is_some_and(|limit| !limit.take(now));
        if self.is_limited {
            return None;
        }
        match &mut self.engine {
            Engine::Sotw(sotw) => sotw.next_request().map(Request::Sotw),
            Engine::Delta(delta) => delta.next_request().map(Request::Delta),
        }
    }

    /// Whether a request waits for `rate_limit_settings`.
    pub fn is_rate_limited(&self) -> bool {
        self.is_limited
    }

    /// When [`Mux::expire`] or [`Mux::next_request`] have something to do, if nothing else happens.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let limited = self.rate_limit.as_ref().filter(|_| self.is_limited).map(|limit| now + limit.wait());
        [self.times_to_live.deadline(), limited].into_iter().flatten().min()
    }

    /// Resources whose time to live is over, as deliveries that remove them.
    pub fn expire(&mut self, now: Instant) -> Vec<Delivery> {
        let expired = self.times_to_live.expired(now);
        expired
            .into_iter()
            .map(|(kind, name)| {
                let watches = match &mut self.engine {
                    Engine::Sotw(sotw) => sotw.watchers(kind, &name),
                    Engine::Delta(delta) => delta.expired(kind, &name),
                };
                let share = |watch| Share { watch, resources: Vec::new(), removed: vec![name.clone()] };
                Delivery {
                    kind,
                    version: String::new(),
                    is_complete: false,
                    shares: watches.into_iter().map(share).collect(),
                    receipt: Receipt::None,
                }
            })
            .collect()
    }

    /// Requests that wait to be sent.
    pub fn pending_requests(&self) -> usize {
        match &self.engine {
            Engine::Sotw(sotw) => sotw.queued(),
            Engine::Delta(delta) => delta.queued(),
        }
    }
}
