//! What requests ask for: how questions reach the main thread, and clusters on demand.

use super::{Counts, Failure, Subscription, Update, Watcher, clusters, subscribe};
use crate::state::Server;
use nuncio_config::sources::{OnDemandClustersUse, Source};
use nuncio_route::{Answer, OnDemand, Question};
use nuncio_xds::{Names, Outcome, ResourceType};
use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use tokio::sync::mpsc::unbounded_channel;

/// Most names that are asked for at once: clients may make them up.
pub(super) const MOST_ASKED: usize = 10_000;

/// Most names of which there is nothing that are asked for on each new stream.
const MOST_LACKING: usize = 1_000;

/// Leads questions of requests to `answer`, here, as long as there is a `T`.
pub(super) fn answer<T: 'static>(on_demand: &OnDemand, to: &Rc<T>, answer: fn(&Rc<T>, Question)) {
    let (sender, mut questions) = unbounded_channel();
    on_demand.connect(move |question| {
        // Nobody is there any more: the answer is dropped.
        let _ = sender.send(question);
    });
    let to = Rc::downgrade(to);
    tokio::task::spawn_local(async move {
        while let (Some(question), Some(to)) = (questions.recv().await, to.upgrade()) {
            answer(&to, question);
        }
    });
}

/// Those who wait for a name.
#[derive(Default)]
pub(super) struct Asked {
    by_name: HashMap<String, Vec<Answer>>,
    /// Names of which there is nothing: the server is asked for them on each new stream, as it may have something then.
    lacking: VecDeque<String>,
}

impl Asked {
    /// Adds a question. Whether its name is to be asked for: it is not asked for already.
    pub(super) fn add(&mut self, name: String, answer: Answer) -> bool {
        if self.by_name.len() >= MOST_ASKED && !self.by_name.contains_key(&name) {
            return false;
        }
        let waiting = self.by_name.entry(name).or_default();
        waiting.push(answer);
        waiting.len() == 1
    }

    /// There is nothing of this name.
    pub(super) fn lacking(&mut self, name: &str, subscription: &Subscription) {
        if self.lacking.iter().any(|known| known == name) {
            return;
        }
        self.lacking.push_back(name.to_owned());
        if self.lacking.len() > MOST_LACKING
            && let Some(oldest) = self.lacking.pop_front()
        {
            subscription.forget(&oldest);
        }
    }

    /// Those who wait for this.
    pub(super) fn take(&mut self, name: &str) -> Vec<Answer> {
        self.by_name.remove(name).unwrap_or_default()
    }
}

/// The sources of clusters on demand, each once.
#[derive(Default)]
pub(crate) struct OnDemandClusterSubscriptions {
    by_source: RefCell<HashMap<u64, Rc<OnDemandClusters>>>,
}

/// Clusters of one source that were asked for. It stays: clusters stay when who asked for them first is gone.
struct OnDemandClusters {
    server: Weak<Server>,
    source: Source,
    subscription: OnceCell<Rc<Subscription>>,
    asked: RefCell<Asked>,
}

/// Answers the questions of a filter.
pub(super) fn follow(server: &Rc<Server>, used: &OnDemandClustersUse) -> Rc<dyn Any> {
    let mut by_source = server.xds.on_demand_clusters.by_source.borrow_mut();
    let clusters = by_source.entry(used.source.digest).or_insert_with(|| {
        Rc::new(OnDemandClusters {
            server: Rc::downgrade(server),
            source: used.source.clone(),
            subscription: OnceCell::new(),
            asked: RefCell::default(),
        })
    });
    answer(&used.on_demand, clusters, OnDemandClusters::asked);
    Rc::clone(clusters) as Rc<dyn Any>
}

impl OnDemandClusters {
    fn asked(self: &Rc<Self>, Question { name, answer }: Question) {
        let Some(server) = self.server.upgrade() else { return };
        if server.clusters.contains(&name) {
            self.answer_when_ready(&server, &name, vec![answer]);
            return;
        }
        if !self.asked.borrow_mut().add(name.to_string(), answer) {
            return;
        }
        if let Some(subscription) = self.subscription.get() {
            subscription.extend(&name);
            return;
        }
        let scope = server.store.scope("cluster_manager.odcds", &[]);
        let watcher = Rc::new(Taker(Rc::downgrade(self)));
        let source = (&self.source, Counts::of(&scope));
        let subscription = subscribe(&server, source, ResourceType::Cluster, Names::one(&name), watcher);
        // Set once, here.
        let _ = self.subscription.set(subscription);
    }

    fn answer_when_ready(&self, server: &Rc<Server>, name: &str, answers: Vec<Answer>) {
        if answers.is_empty() {
            return;
        }
        let (clusters, name) = (server.clusters.clone(), name.to_owned());
        tokio::task::spawn_local(async move {
            clusters.settled(&name).await;
            answers.into_iter().for_each(|answer| answer());
        });
    }

    fn take(&self, server: &Rc<Server>, update: &Update<'_>) -> Outcome {
        let mut refused = Vec::new();
        for resource in update.resources {
            if let Err(reason) = clusters::take_one(server, resource) {
                server.xds.held.refused(ResourceType::Cluster, resource, &reason);
                refused.push(format!("{}: {reason}", resource.name));
            }
            let answers = self.asked.borrow_mut().take(&resource.name);
            self.answer_when_ready(server, &resource.name, answers);
        }
        for name in update.removed {
            if server.xds.held.newest(ResourceType::Cluster, name).is_some() {
                server.xds.held.removed(ResourceType::Cluster, name);
                tracing::info!(target: "upstream", "removing cluster {name}");
                server.clusters.remove(name);
            }
            if let Some(subscription) = self.subscription.get() {
                self.asked.borrow_mut().lacking(name, subscription);
            }
            let answers = self.asked.borrow_mut().take(name);
            answers.into_iter().for_each(|answer| answer());
        }
        if refused.is_empty() {
            return Ok(());
        }
        Err(format!("Error adding/updating cluster(s) {}", refused.join(", ")))
    }
}

struct Taker(Weak<OnDemandClusters>);

impl Watcher for Taker {
    fn update(&self, update: &Update<'_>) -> Outcome {
        let Some(clusters) = self.0.upgrade() else { return Ok(()) };
        let Some(server) = clusters.server.upgrade() else { return Ok(()) };
        clusters.take(&server, update)
    }

    // Requests wait as long as their filter says.
    fn failed(&self, _failure: &Failure) {}
}
