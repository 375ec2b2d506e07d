//! Waiting for what a request's route needs.

use nuncio_cluster::WorkerClusters;
use nuncio_filter::{Completed, End, HttpFilter, HttpFilterFactory, Interest, RouteSlot, Step, Stream, Work, Worker};
use nuncio_headers::Known;
use nuncio_route::{Answer, OnDemand, PeerCertificate, Question, RouteQuery};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// `OnDemandCds`: clusters that requests ask for.
pub(super) struct ClusterDiscovery {
    /// Who is asked.
    pub on_demand: Arc<OnDemand>,
    /// How long a request waits.
    pub timeout: Duration,
}

/// `PerRouteConfig`: in the place of what the filter has; none leaves missing clusters missing.
pub(super) struct OnDemandRoute(pub Option<Arc<ClusterDiscovery>>);

/// `OnDemand`.
pub(super) struct OnDemandFactory(pub Option<Arc<ClusterDiscovery>>);

impl HttpFilterFactory for OnDemandFactory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn HttpFilter> {
        Box::new(OnDemandFilter { clusters: self.0.clone(), waits_for: Need::Nothing })
    }

    fn interest(&self) -> Interest {
        Interest::REQUEST_HEADERS
    }
}

/// What a request waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Route,
    Cluster,
}

struct OnDemandFilter {
    clusters: Option<Arc<ClusterDiscovery>>,
    waits_for: Need,
}

impl HttpFilter for OnDemandFilter {
    fn request_headers(&mut self, stream: &mut Stream<'_>, _end: End) -> Step {
        match missing_route(stream) {
            Some(work) => {
                self.waits_for = Need::Route;
                Step::Await(work)
            }
            None => self.cluster(stream),
        }
    }

    fn resume(&mut self, stream: &mut Stream<'_>, _done: Completed) -> Step {
        match std::mem::replace(&mut self.waits_for, Need::Nothing) {
            Need::Route => {
                let newest = stream.state.routes.as_ref().and_then(|table| table.discovery()?.newest.get());
                if newest.is_some() {
                    stream.state.routes = newest;
                }
                stream.clear_route();
                self.cluster(stream)
            }
            Need::Cluster => {
                if let Some(clusters) = stream.worker.services().get::<WorkerClusters>() {
                    clusters.apply_pending();
                }
                Step::Next
            }
            Need::Nothing => Step::Next,
        }
    }
}

impl OnDemandFilter {
    /// Waits for the cluster of the request's route, if it is not there.
    fn cluster(&mut self, stream: &mut Stream<'_>) -> Step {
        let of_route = stream.per_route::<OnDemandRoute>().map(|route| route.0.clone());
        let Some(discovery) = of_route.unwrap_or_else(|| self.clusters.clone()) else { return Step::Next };
        let Some(name) = missing_cluster(stream) else { return Step::Next };
        self.waits_for = Need::Cluster;
        let work = ask(|answer| discovery.on_demand.ask(Question { name: (*name).into(), answer }));
        let timeout = discovery.timeout;
        Step::Await(Work::new(async move {
            // Nobody else is told of what came too late.
            let _ = tokio::time::timeout(timeout, work).await;
        }))
    }
}

/// Asks; the future is done when there is an answer, or will be none.
fn ask(ask: impl FnOnce(Answer)) -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    ask(Box::new(move || {
        // The request is gone.
        let _ = sender.send(());
    }));
    receiver
}

/// What the request must wait for to have a route, if anything.
fn missing_route(stream: &mut Stream<'_>) -> Option<Work> {
    stream.resolve();
    if !matches!(stream.state.route, RouteSlot::NoRoute(_) | RouteSlot::Unresolved) {
        return None;
    }
    let answered = match stream.state.routes.as_ref().map(|table| table.discovery()) {
        Some(Some(discovery)) => {
            let host = stream.request.get(Known::AUTHORITY)?;
            let name = std::str::from_utf8(host).ok()?.to_ascii_lowercase().into_boxed_str();
            ask(|answer| discovery.on_demand.ask(Question { name, answer }))
        }
        Some(None) => return None,
        None => {
            let scopes = stream.state.scopes.as_ref()?;
            let name = (*scopes.lacking(stream.request)?).into();
            ask(|answer| scopes.ask(Question { name, answer }))
        }
    };
    Some(Work::new(answered))
}

/// The cluster that the request's route forwards to, if there is none of its name.
fn missing_cluster(stream: &mut Stream<'_>) -> Option<Arc<str>> {
    stream.resolve();
    let RouteSlot::Found(route) = &stream.state.route else { return None };
    let forward = route.forward()?;
    let random = stream.state.random;
    let chosen = stream.state.cluster.as_ref().map(|chosen| Arc::clone(&chosen.name));
    let choose = || {
        stream.worker.with_runtime(|runtime| {
            let query = RouteQuery {
                headers: stream.request,
                random,
                runtime,
                info: Some(stream.info),
                peer_certificate: PeerCertificate::default(),
            };
            forward.choose_cluster(&query, None).map(|choice| choice.name)
        })
    };
    let name = chosen.or_else(choose)?;
    let clusters = stream.worker.services().get::<WorkerClusters>()?;
    (!name.is_empty() && !clusters.contains(&name)).then_some(name)
}
